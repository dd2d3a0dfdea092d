// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import VUSBCore

/// A process that is a guest, or a container's first one. A number alone isn't enough: the kernel uses it again, so
/// the time at which the process began goes with it.
package struct GuestProcess: Sendable, Hashable, Codable {
    package var pid: Int
    /// Clock ticks since the host booted (`/proc/PID/stat`, field 22).
    package var startTime: UInt64

    package init(pid: Int, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
    }

    /// The process with this number now.
    /// - Throws: `notFound` where there is none.
    package init(pid: Int) throws(USBError) {
        guard pid > 0, pid <= Int(Int32.max), let status = ProcessStatus(pid: pid) else {
            throw USBError(.notFound, "no process \(pid)", remedy: "name a process that runs on this host")
        }
        self.init(pid: pid, startTime: status.startTime)
    }

    /// What it does now; `off` as well where another process has its number.
    package var state: VMMGuest.State {
        guard let status = ProcessStatus(pid: pid), status.startTime == startTime else { return .off }
        switch status.state {
        case "Z", "X", "x": return .off
        case "T", "t": return .stopped
        default: return .running
        }
    }
}

/// What proc(5) says in `/proc/PID/stat`.
struct ProcessStatus {
    let state: Character
    let startTime: UInt64

    init?(pid: Int) {
        guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/stat") else { return nil }
        self.init(parsing: String(decoding: data, as: UTF8.self))
    }

    /// The second field is the program's name in parentheses and may hold blanks and parentheses itself: fields are
    /// counted from behind its last one.
    init?(parsing line: String) {
        guard let end = line.lastIndex(of: ")") else { return nil }
        let fields = line[line.index(after: end)...].split(separator: " ")
        guard fields.count > 19, let state = fields[0].first, let startTime = UInt64(fields[19]) else { return nil }
        self.state = state
        self.startTime = startTime
    }
}
