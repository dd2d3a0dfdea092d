// SPDX-License-Identifier: Apache-2.0

internal import NIOCore

/// What goes out: a batch of answers is one write.
extension USBIPConnection {
    /// Sends what the session has to say; of one that has ended, finds out whether it's over.
    func answer() {
        guard let session else { return }
        if isBehind, waitingBytes == 0 {
            isBehind = false
            session.loopIsEmpty()
        }
        session.answer(write)
    }

    /// What NIO has and the socket hasn't taken.
    var waitingBytes: Int? { try? context?.channel.syncOptions?.getOption(.bufferedWritableBytes) }

    private func write(_ messages: inout [ByteBuffer]) {
        defer { messages.removeAll(keepingCapacity: true) }
        guard let context else { return }
        isBehind = true
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
