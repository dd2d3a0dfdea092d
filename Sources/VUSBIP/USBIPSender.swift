// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import NIOCore

/// The socket of a connection, for answers that are sent without the loop. It has a descriptor of its own, so that it can't
/// meet another file with the number of one that NIO has closed; the socket is open until both are.
///
/// Concurrency model: whoever's turn it is sends. It's closed when nobody has it any more.
@safe
final class USBIPSender: @unchecked Sendable {
    /// Messages that are handed over in one call.
    private static let most = 64

    private let descriptor: Int32
    // SAFETY: from here on all is whose turn it is.
    /// The number of the error, where the socket has failed.
    private(set) var failure: Int32?
    private var pieces: [iovec] = unsafe []

    /// - Parameter socket: one whose owner has it yet.
    /// - Returns: nil where no descriptor is left.
    init?(_ socket: Int32) {
        descriptor = fcntl(socket, F_DUPFD_CLOEXEC, 0)
        guard descriptor >= 0 else { return nil }
        unsafe pieces.reserveCapacity(Self.most)
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
    }

    /// Sends as much as the socket takes now.
    /// - Parameter messages: what is left of them, in the end.
    /// - Returns: whether nothing is left. Where something is, the socket is full, or has failed, which NIO finds out.
    func send(_ messages: inout [ByteBuffer]) -> Bool {
        while !messages.isEmpty {
            let count = min(messages.count, Self.most)
            var sent = sendFirst(count, messages)
            guard sent >= 0 else { return false }
            var done = 0
            while done < count, sent >= messages[done].readableBytes {
                sent -= messages[done].readableBytes
                done += 1
            }
            messages.removeFirst(done)
            guard done == count else {
                messages[0].moveReaderIndex(forwardBy: sent)
                return false
            }
        }
        return true
    }

    private func sendFirst(_ count: Int, _ messages: [ByteBuffer]) -> Int {
        unsafe pieces.removeAll(keepingCapacity: true)
        for message in messages.prefix(count) {
            // SAFETY: `messages` keeps the memory, and nobody writes to it, for the call.
            let bytes = unsafe message.withUnsafeReadableBytes { unsafe $0 }
            unsafe pieces.append(
                iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count))
        }
        return unsafe pieces.withUnsafeMutableBufferPointer { pieces in
            var header = unsafe msghdr()
            unsafe header.msg_iov = pieces.baseAddress
            unsafe header.msg_iovlen = pieces.count
            while true {
                let sent = unsafe sendmsg(descriptor, &header, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
                if sent < 0, errno == EINTR { continue }
                if sent < 0, errno != EAGAIN { failure = errno }
                return sent
            }
        }
    }
}
