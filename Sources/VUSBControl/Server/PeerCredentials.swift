// SPDX-License-Identifier: Apache-2.0

import Glibc
package import NIOCore

/// Who is at the other end of a Unix socket, as the kernel recorded it when they connected (unix(7), SO_PEERCRED).
package struct PeerCredentials: Sendable, Equatable {
    package var pid: Int32
    package var user: UInt32
    /// The primary group.
    package var group: UInt32
    /// The supplementary groups (SO_PEERGROUPS).
    package var groups: [UInt32]

    package init(pid: Int32, user: UInt32, group: UInt32, groups: [UInt32] = []) {
        self.pid = pid
        self.user = user
        self.group = group
        self.groups = groups
    }

    /// Reads them from a connection's socket. Nil when it has none: it's closed already, or not a Unix socket.
    package static func of(_ channel: any Channel) async -> PeerCredentials? {
        let reading = channel.eventLoop.submit {
            try channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) {
                PeerCredentials(socket: $0)
            }
        }
        do {
            return try await reading.get()?.flatMap { $0 }
        } catch {
            return nil  // Closed meanwhile: there's nobody left to recognise.
        }
    }

    /// - Parameter socket: a connected Unix socket; it's only looked at.
    package init?(socket: Int32) {
        var credentials = Record()
        var length = socklen_t(MemoryLayout<Record>.size)
        // SAFETY: `credentials` has room for the `length` bytes that the kernel may write.
        guard unsafe getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 else { return nil }
        self.init(
            pid: credentials.pid, user: credentials.user, group: credentials.group, groups: Self.groups(of: socket))
    }

    /// `struct ucred` of `linux/socket.h`, which Glibc's module leaves out.
    private struct Record: BitwiseCopyable {
        var pid: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
    }

    /// SO_PEERGROUPS, `asm-generic/socket.h`; Linux 4.13.
    private static let peerGroups: Int32 = 59

    private static func groups(of socket: Int32) -> [UInt32] {
        var groups = [UInt32](repeating: 0, count: 64)
        while true {
            var length = socklen_t(groups.count * MemoryLayout<UInt32>.stride)
            // SAFETY: `groups` has room for the `length` bytes that the kernel may write.
            if unsafe getsockopt(socket, SOL_SOCKET, peerGroups, &groups, &length) == 0 {
                return Array(groups.prefix(Int(length) / MemoryLayout<UInt32>.stride))
            }
            // ERANGE: `length` is now what it takes; at most NGROUPS_MAX (65,536) numbers.
            let needed = Int(length) / MemoryLayout<UInt32>.stride
            guard errno == ERANGE, needed > groups.count else { return [] }
            groups = [UInt32](repeating: 0, count: needed)
        }
    }
}
