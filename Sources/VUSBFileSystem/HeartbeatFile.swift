// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// `heartbeat`, opened by a program of the guest: each write is a beat.
final class HeartbeatFile: OpenFile {
    /// Bytes of a write.
    static let limit = 4096

    private let heartbeat: Heartbeat

    init(heartbeat: Heartbeat) { self.heartbeat = heartbeat }

    func write(_ reply: consuming sending FUSEReply, _ data: borrowing WriteData, isNonblocking: Bool) {
        guard data.count <= Self.limit else { return reply.error(EMSGSIZE) }
        guard heartbeat.beat() else { return reply.error(ENODEV) }
        reply.written(data.count)
    }

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        reply.error(EBADF)
    }
}
