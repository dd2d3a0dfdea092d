// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import NIOPosix
internal import Synchronization
internal import VUSBCore

/// A connection to a server, from OP_REQ_IMPORT to its end.
///
/// Concurrency model: the loop's thread has it all; `cut` and the session's wake-ups hop there.
final class USBIPImportConnection: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        case asking
        case serving(USBIPImportSession)
        case ended
    }

    private let remote: USBIPRemote
    private let patience: USBIPImportPatience
    private let loops: USBIPLoopGuard
    private let loop: any EventLoop
    private let answered = USBIPOutcome<Result<USBIPImportSession, USBError>>()
    /// Why it has ended.
    private let ended = USBIPOutcome<USBError>()

    // SAFETY: from here on all is the loop's thread's.
    private var phase = Phase.asking
    private var reader: USBIPImportReader
    private var context: ChannelHandlerContext?
    private var timer: Scheduled<Void>?
    private var watch: RepeatedTask?
    private var watcher = USBIPReadingWatch()
    private var entry: USBIPLoopGuard.Entry?
    private var isSending = false
    private var sending: [ByteBuffer] = []
    private var lastError: (any Error)?

    init(_ remote: USBIPRemote, _ patience: USBIPImportPatience, _ loops: USBIPLoopGuard, _ loop: any EventLoop) {
        self.remote = remote
        self.patience = patience
        self.loops = loops
        self.loop = loop
        reader = USBIPImportReader(busID: remote.busID)
    }

    /// The device, once the server has given it.
    func session() async throws(USBError) -> USBIPImportSession { try await answered.value().get() }

    /// Returns when the connection is closed: why.
    func end() async -> USBError { await ended.value() }

    // MARK: - The channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        guard context.channel.isActive else { return finish(loss(lastError)) }
        // Before the server can ask who it is.
        entry = USBIPLoopGuard.Entry(remote.server, context.channel)
        if let entry { loops.add(entry) }
        var request = context.channel.allocator.buffer(
            capacity: USBIPNumbers.operationBytes + USBIPNumbers.busIDBytes)
        request.writeMultipleIntegers(USBIPNumbers.version, USBIPNumbers.requestImport, UInt32(0))
        request.writeBytes(remote.busID.utf8)
        request.writeRepeatingByte(0, count: USBIPNumbers.busIDBytes - remote.busID.utf8.count)
        context.writeAndFlush(wrapOutboundOut(request), promise: nil)
        timer = loop.scheduleTask(in: TimeAmount(patience.operation)) { [weak self] in
            self?.finish(USBError(.timedOut, "the server doesn't answer"))
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelInactive(context: ChannelHandlerContext) { finish(loss(lastError)) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        lastError = error
        // Where the socket isn't closed by itself.
        context.close(promise: nil)
    }

    private func loss(_ error: (any Error)?) -> USBError {
        USBError(.gone, USBIPEnd(error).serverText)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        do throws(USBIPServerFault) {
            try take(buffer.readableBytesSpan, context)
        } catch {
            finish(failure(error))
        }
    }

    private func failure(_ fault: USBIPServerFault) -> USBError {
        guard case .refused = fault, let entry, loops.hasMetItself(entry) else {
            return USBError(fault.code, "\(fault)")
        }
        return USBError(
            .unsupported, "the server is this vusbd itself",
            remedy: "nothing is to be imported: what it lends it has, see `vusbctl devices`")
    }

    private func take(_ bytes: RawSpan, _ context: ChannelHandlerContext) throws(USBIPServerFault) {
        var position = 0
        if case .asking = phase {
            guard let record = try reader.take(bytes, &position) else { return }
            begin(record, context)
        }
        guard case .serving(let session) = phase else { return }
        try session.receive(bytes.extracting(position...))
    }

    func channelReadComplete(context: ChannelHandlerContext) { send() }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        send()
        context.fireChannelWritabilityChanged()
    }

    private func begin(_ record: USBIPImportRecord, _ context: ChannelHandlerContext) {
        timer?.cancel()
        let session = USBIPImportSession(record, context.channel.allocator) { [weak self, loop] in
            guard let self else { return }
            loop.execute { self.send() }
        } cut: { [weak self] reason in
            self?.cut(reason)
        }
        phase = .serving(session)
        // Not by the loop's own timers, as in `USBIPConnection`.
        watch = MultiThreadedEventLoopGroup.singleton.any().scheduleRepeatedTask(
            initialDelay: TimeAmount(patience.look), delay: TimeAmount(patience.look)
        ) { [weak self, loop] _ in loop.execute { [weak self] in self?.look() } }
        answered.settle(.success(session))
    }

    // MARK: - Sending

    /// Sends what the session has to say, as far as there is room.
    private func send() {
        guard case .serving(let session) = phase, !isSending else { return }
        isSending = true
        defer { isSending = false }
        while let context, context.channel.isWritable {
            let isMore = session.turn()
            session.outgoing.give(to: &sending)
            if !sending.isEmpty {
                for message in sending {
                    watcher.sent(message.readableBytes)
                    context.write(wrapOutboundOut(message), promise: nil)
                }
                sending.removeAll(keepingCapacity: true)
                context.flush()
            }
            guard isMore else { return }
        }
    }

    /// C9 and V14 of Imports.md.
    private func look() {
        guard case .serving(let session) = phase else { return }
        let limit = session.isResting ? patience.ending : patience.unlink
        if let oldest = session.oldestCancel, .now - oldest >= limit {
            return finish(USBError(.timedOut, "the server doesn't end a transfer that was cancelled"))
        }
        guard let waiting = try? context?.channel.syncOptions?.getOption(.bufferedWritableBytes) else { return }
        if watcher.isStuck(waiting, for: patience.reading) {
            finish(USBError(.timedOut, "the server doesn't read"))
        }
    }

    // MARK: - The end

    /// Closes it; any thread.
    func cut(_ reason: USBError) {
        loop.execute { self.finish(reason) }
    }

    private func finish(_ reason: USBError) {
        let before = phase
        if case .ended = before { return }
        phase = .ended
        timer?.cancel()
        watch?.cancel()
        if let entry { loops.remove(entry) }
        switch before {
        case .asking: answered.settle(.failure(reason))
        case .serving(let session): session.end()
        case .ended: break
        }
        guard let context else { return ended.settle(reason) }
        let ended = ended
        context.close().whenComplete { _ in ended.settle(reason) }
    }
}

extension USBIPEnd {
    /// Seen from the client's side.
    var serverText: String {
        switch self {
        case .closed: "the server has closed the connection"
        case .reset: "the server has reset the connection"
        case .vanished: "the server has vanished"
        case .deaf: "the server doesn't read"
        case .violation(let what), .failed(let what): what
        case .withdrawn: "the device was taken back"
        }
    }
}

extension USBIPServerFault {
    var code: USBError.Code {
        guard case .refused(let status) = self else { return .invalid }
        switch USBIPOperationStatus(rawValue: status) {
        case .busy: return .busy
        case .noDevice: return .notFound
        default: return .io
        }
    }
}
