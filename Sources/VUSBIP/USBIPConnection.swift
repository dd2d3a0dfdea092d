// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import NIOPosix
internal import NIOSSL
internal import NIOTLS
internal import Synchronization
internal import VUSBCore

/// One peer, from accept to close: who it is, what it asks for, then the session of the device that it imports.
///
/// Concurrency model: the loop's thread has it all. The control plane's calls and the session's wake-ups hop there. It
/// lives as long as its session isn't over, which is the lease's end.
final class USBIPConnection: ChannelDuplexHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    enum Phase {
        /// TLS only.
        case securing
        case request(guest: String)
        /// All is said: the socket is to be closed.
        case answered
        case serving(USBIPSession, USBIPExport)
        case ended
    }

    private let listener: USBIPListener
    private let catalogue: USBIPCatalogue
    private let patience: USBIPPatience
    private let loop: any EventLoop
    /// For others than the loop's thread, too: of a connection that has imported something.
    private let served = Mutex<USBIPSession?>(nil)

    // SAFETY: from here on all is the loop's thread's.
    private var requestReader = USBIPRequestReader()
    /// Until its last URB has ended.
    private var session: USBIPSession?
    private var identity: USBIPIdentity
    private var phase = Phase.securing
    private var context: ChannelHandlerContext?
    private var timer: Scheduled<Void>?
    private var watch: RepeatedTask?
    private var watcher = USBIPReadingWatch()
    /// Bytes that wait: while it's quiet, or for the peer to read.
    private var held: ByteBuffer?
    private var isProcessing = false
    private var isReadHeld = false
    private var isQuiet = false
    private var sending: [ByteBuffer] = []
    /// What NIO says of the end before it comes.
    private var lastError: (any Error)?

    init(
        _ identity: USBIPIdentity, _ listener: USBIPListener, _ catalogue: USBIPCatalogue, _ patience: USBIPPatience,
        _ loop: any EventLoop
    ) {
        self.identity = identity
        self.listener = listener
        self.catalogue = catalogue
        self.patience = patience
        self.loop = loop
    }

    // MARK: - The channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        listener.add(self)
        timer = loop.scheduleTask(in: TimeAmount(patience.request)) { [weak self] in
            self?.refuse("it has imported nothing in time")
        }
        if case .tcp(_, _, .some) = listener.definition.endpoint { return }
        findGuest()
    }

    func channelInactive(context: ChannelHandlerContext) {
        switch phase {
        case .securing: refuse("no TLS: \(lastError.map { "\($0)" } ?? "it has closed the connection")")
        case .request, .answered: refuse(nil)
        case .serving: end(USBIPEnd(lastError))
        case .ended: break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        lastError = error
        // Where the socket isn't closed by itself.
        context.close(promise: nil)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .securing = phase, let event = event as? TLSUserEvent, case .handshakeCompleted = event {
            takeCertificate(context)
        }
        context.fireUserInboundEventTriggered(event)
    }

    private func takeCertificate(_ context: ChannelHandlerContext) {
        // One that can't be told is nobody's.
        guard let found = try? context.pipeline.syncOperations.nioSSL_peerCertificate(),
            let bytes = try? found.toDERBytes()
        else { return refuse("a certificate that can't be read") }
        identity = .certificate(
            fingerprint: SHA256Digest(of: bytes).hexadecimal, commonName: CertificateName.commonName(bytes))
        findGuest()
    }

    private func findGuest() {
        guard let guest = listener.definition.guest(identity) else { return refuse("it's no guest") }
        phase = .request(guest: guest)
    }

    // MARK: - Reading

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
    private func processHeld() {
        while !isProcessing, mayProcess, let bytes = held.take() {
            process(bytes)
            answer()
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
                if count == 0 { answer() }
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
            end(.violation("\(violation)"))
        } else {
            refuse("it has sent \(violation)")
        }
    }

    // MARK: - Sending

    /// Sends what the session has to say; of one that has ended, finds out whether it's over.
    private func answer() {
        guard let session else { return }
        session.turn()
        flush(session)
    }

    private func flush(_ session: USBIPSession) {
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
    private func conclude(_ buffer: ByteBuffer) {
        phase = .answered
        listener.remove(self)
        guard let context else { return }
        // The timer is still there, for a peer that doesn't read it.
        context.writeAndFlush(wrapOutboundOut(buffer)).assumeIsolated().whenComplete { [weak self] _ in
            self?.refuse(nil)
        }
    }
}

// MARK: - Requests

extension USBIPConnection {
    private func takeRequest(_ bytes: RawSpan, _ guest: String) throws(USBIPViolation) -> Int {
        let (request, count) = try requestReader.take(bytes)
        switch request {
        case nil: break
        case .list: list(guest)
        case .importDevice(let busID): importDevice(guest, busID)
        }
        return count
    }

    private func list(_ guest: String) {
        let records = catalogue.exports(of: guest).map { USBIPDeviceRecord($0.place, $0.device) }
        var buffer = ByteBuffer()
        USBIPDeviceRecord.appendList(records, to: &buffer)
        conclude(buffer)
    }

    private func importDevice(_ guest: String, _ busID: [UInt8]) {
        let export = catalogue.export(of: guest, busID: busID)
        guard let export else { return deny(.noDevice, "a device that it doesn't hold") }
        switch export.take(self) {
        case .gone: deny(.noDevice, "a device that it doesn't hold")
        case .busy: deny(.busy, "\(export.place.path), which is in use")
        case .taken(let isQuiet): begin(export, isQuiet)
        }
    }

    private func deny(_ status: USBIPImportStatus, _ what: String) {
        listener.report("\(identity)", "it has asked for \(what)")
        var buffer = ByteBuffer()
        USBIPDeviceRecord.append(USBIPNumbers.replyImport, status, to: &buffer)
        conclude(buffer)
    }

    private func begin(_ export: USBIPExport, _ isQuiet: Bool) {
        guard let context else { return export.returned(peer: "\(identity)", .closed, unfinished: 0) }
        timer?.cancel()
        listener.remove(self)
        let session = USBIPSession(
            export.device, deviceID: export.place.deviceID, peer: "\(identity)", context.channel.allocator
        ) {
            [weak self, loop] in
            guard let self else { return }
            loop.execute { self.answer() }
        }
        phase = .serving(session, export)
        self.session = session
        self.isQuiet = isQuiet
        served.withLock { $0 = session }
        // It can't fail: the channel is this one's.
        try? context.channel.syncOptions?.setOption(
            .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: USBIPLimits.receiveBuffer))
        session.outgoing.fill { USBIPDeviceRecord(export.place, export.device).appendImport(to: &$0) }
        export.imported(peer: session.peer)
        flush(session)
        // Not by the loop's own timers: with one of those it reads the clock several times a round, and sets its timer.
        watch = MultiThreadedEventLoopGroup.singleton.any().scheduleRepeatedTask(
            initialDelay: TimeAmount(patience.look), delay: TimeAmount(patience.look)
        ) { [weak self, loop] _ in loop.execute { [weak self] in self?.look() } }
    }

    /// K4 of USBIP.md.
    private func look() {
        guard let waiting = try? context?.channel.syncOptions?.getOption(.bufferedWritableBytes) else { return }
        guard watcher.isStuck(waiting, for: patience.reading) else { return }
        end(.deaf)
    }
}

// MARK: - Ends

extension USBIPConnection {
    /// Closes a connection that has no session.
    /// - Parameter reason: nil where the peer has done nothing wrong.
    func refuse(_ reason: String?) {
        switch phase {
        case .serving, .ended: return
        case .securing, .request, .answered: break
        }
        phase = .ended
        if let reason { listener.report("\(identity)", reason) }
        close()
    }

    private func end(_ reason: USBIPEnd) {
        guard case .serving(let session, let export) = phase else { return }
        phase = .ended
        close()
        let peer = session.peer
        let deadline = loop.scheduleTask(in: TimeAmount(patience.ending)) { session.abandon() }
        session.end { [self] in
            deadline.cancel()
            self.session = nil
            served.withLock { $0 = nil }
            export.returned(peer: peer, reason, unfinished: session.inFlight)
        }
    }

    private func close() {
        timer?.cancel()
        watch?.cancel()
        held = nil
        listener.remove(self)
        context?.close(promise: nil)
    }

    // MARK: - The control plane

    var status: USBIPStatus {
        let session = served.withLock { $0 }
        guard let session else { return USBIPStatus(state: .imported) }
        let (inFlight, last) = session.state.withLock { ($0.slots.inUse, $0.lastTransfer) }
        return USBIPStatus(
            state: .imported, peer: session.peer, inFlight: inFlight, idle: last.map { CoarseInstant.now - $0 })
    }

    /// Ends the session.
    func withdraw() {
        loop.execute { self.end(.withdrawn) }
    }

    func setQuiet(_ isQuiet: Bool) {
        loop.execute {
            self.isQuiet = isQuiet
            self.processHeld()
        }
    }
}
