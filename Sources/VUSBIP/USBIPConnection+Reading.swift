// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import VUSBCore

/// What comes in: as it comes, or held back while the session is quiet or its peer doesn't read.
extension USBIPConnection {
    func read(context: ChannelHandlerContext) {
        guard mayRead else {
            isReadHeld = true
            return
        }
        context.read()
    }

    private var mayRead: Bool { mayProcess && held == nil }
    private var mayProcess: Bool { !isQuiet && (context?.channel.isWritable ?? false) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        if held == nil, mayProcess, !isProcessing {
            process(bytes)
        } else {
            hold(bytes)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        answer()
        processHeld()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        processHeld()
        context.fireChannelWritabilityChanged()
    }

    private func hold(_ bytes: ByteBuffer) {
        switch phase {
        case .answered, .ended: return
        default: break
        }
        guard var all = held.take() else {
            held = bytes
            return
        }
        all.writeImmutableBuffer(bytes)
        held = all
    }

    /// Takes up what was held back, where that may be.
    func processHeld() {
        while !isProcessing, mayProcess, let bytes = held.take() {
            process(bytes)
            // Else it goes on when others have answered.
            guard answer() || held == nil else { break }
        }
        guard isReadHeld, mayRead, let context else { return }
        isReadHeld = false
        context.read()
    }

    private func process(_ bytes: ByteBuffer) {
        isProcessing = true
        defer { isProcessing = false }
        var bytes = bytes
        do throws(USBIPViolation) {
            while bytes.readableBytes > 0 {
                let count = try take(bytes)
                bytes.moveReaderIndex(forwardBy: count)
                if count == 0, !answer() { break }
                guard mayProcess else { break }
            }
        } catch {
            return sendAway(error)
        }
        if bytes.readableBytes > 0 { hold(bytes) }
    }

    /// - Returns: how many bytes have been taken; 0 where an answer is to be sent first.
    private func take(_ bytes: ByteBuffer) throws(USBIPViolation) -> Int {
        switch phase {
        case .serving(let session, _): try session.receive(bytes.readableBytesSpan)
        case .request(let guest): try takeRequest(bytes.readableBytesSpan, guest)
        // Nobody has asked for it.
        case .securing, .answered, .ended: bytes.readableBytes
        }
    }

    private func sendAway(_ violation: USBIPViolation) {
        if case .serving = phase {
            // What it said before is answered, where it can be.
            answer()
            end(violation == .farewell ? .closed : .violation("\(violation)"))
        } else {
            refuse("it has sent \(violation)")
        }
    }
}
