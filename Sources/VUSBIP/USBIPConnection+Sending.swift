// SPDX-License-Identifier: Apache-2.0

internal import NIOCore

/// What goes out: a batch of answers is one write.
extension USBIPConnection {
    /// Sends what the session has to say; of one that has ended, finds out whether it's over.
    func answer() {
        guard let session else { return }
        session.turn()
        flush(session)
    }

    func flush(_ session: USBIPSession) {
        guard let context, sending.isEmpty else { return }
        session.outgoing.give(to: &sending)
        guard !sending.isEmpty else { return }
        for message in sending {
            watcher.sent(message.readableBytes)
            context.write(wrapOutboundOut(message), promise: nil)
        }
        sending.removeAll(keepingCapacity: true)
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
