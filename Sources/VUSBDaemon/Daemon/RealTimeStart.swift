// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Logging
internal import VUSBControl
internal import VUSBCore

/// `realtime: true`: what this process may have of it, settled before there is a data thread.
struct RealTimeStart: Sendable {
    private let isWanted: Bool
    /// Errnos, or 0.
    private let scheduling: Int32
    private let memory: Int32

    init(isWanted: Bool, _ logger: Logger) {
        self.isWanted = isWanted
        scheduling = RealTime.probe()
        memory = !Self.mayLockMemory ? EPERM : isWanted ? RealTime.lockMemory() : 0
        guard isWanted else { return }
        if scheduling == 0 { RealTime.want() }
        for finding in findings() where finding.level != .ok {
            logger.error("\(finding.summary)", metadata: ["remedy": "\(finding.remedy ?? "")"])
        }
    }

    /// With a limit that isn't unlimited, what is allocated beyond it would fail later on.
    private static var mayLockMemory: Bool {
        var limit = rlimit()
        // SAFETY: it writes the one value that it's given.
        guard unsafe getrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &limit) == 0 else { return false }
        return geteuid() == 0 || limit.rlim_cur == .max
    }

    /// For `doctor`: also where it isn't wanted, whether it could be had.
    func findings() -> [Finding] {
        [
            finding(
                "realtime threads", scheduling, "SCHED_FIFO, priority \(RealTime.priority)",
                remedy: "run vusbd as root, or give it LimitRTPRIO=\(RealTime.priority) or more (ulimit -r)"),
            finding(
                "realtime memory", memory, "locked in memory",
                remedy: "run vusbd as root, or give it LimitMEMLOCK=infinity (ulimit -l unlimited)"),
        ]
    }

    private func finding(_ check: String, _ code: Int32, _ what: String, remedy: String) -> Finding {
        guard isWanted else {
            let may = code == 0 ? "allow it" : "don't allow it"
            return Finding(
                check: check, level: .ok,
                summary: "not wanted (realtime: true in vusb.yaml); the limits \(may): \(what)")
        }
        guard code != 0 else { return Finding(check: check, level: .ok, summary: what) }
        // SAFETY: strerror answers a zero-terminated text for every number; it is copied.
        let reason = unsafe String(cString: strerror(code))
        return Finding(check: check, level: .error, summary: "can't be had: \(what): \(reason)", remedy: remedy)
    }
}
