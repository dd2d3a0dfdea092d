// SPDX-License-Identifier: Apache-2.0

internal import NIOCore

/// What goes out: a batch of answers is one write.
extension USBIPConnection {
    /// Sends what the session has to say; of one that has ended, finds out whether it's over.
    /// - Returns: false where others are at it: the loop is woken when there's something for it to do.
    @discardableResult
    func answer() -> Bool {
        guard let session else { return false }
        if isBehind, waitingBytes == 0 {
            isBehind = false
            session.noteLoopIsEmpty()
        }
        return session.answer(write)
    }

    /// What NIO has and the socket hasn't taken.
    var waitingBytes: Int? { try? context?.channel.syncOptions?.getOption(.bufferedWritableBytes) }

    private func write(_ messages: inout [ByteBuffer]) {
        defer { messages.removeAll(keepingCapacity: true) }
        guard let context else { return }
        isBehind = true
        // NIO isn't told of it any more.
        if lastError == nil, let code = session?.failure { lastError = IOError(errnoCode: code, reason: "sendmsg") }
        for message in messages {
            watcher.sent(message.readableBytes)
            context.write(wrapOutboundOut(message), promise: nil)
        }
        context.flush()
    }

    /// The last that is said.
    func conclude(_ buffer: ByteBuffer) {
        phase = .answered
        listener.remove(self)
        guard let context else { return }
        // For a peer that doesn't read it.
        if timer == nil { startTimer() }
        context.writeAndFlush(wrapOutboundOut(buffer)).assumeIsolated().whenComplete { [weak self] _ in
            self?.refuse(nil)
        }
    }
}
