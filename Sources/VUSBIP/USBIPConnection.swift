// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
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

    let listener: USBIPListener
    let catalogue: USBIPCatalogue
    let patience: USBIPPatience
    let loops: USBIPLoopGuard?
    let loop: any EventLoop
    /// NIO's; nil where what is sent isn't what goes over the wire.
    let socket: Int32?
    /// For others than the loop's thread, too: of a connection that has imported something.
    let served = Mutex<USBIPSession?>(nil)

    // SAFETY: from here on all is the loop's thread's.
    var requestReader = USBIPRequestReader()
    /// Until its last URB has ended.
    var session: USBIPSession?
    var identity: USBIPIdentity
    var phase = Phase.securing
    var context: ChannelHandlerContext?
    var timer: Scheduled<Void>?
    var watch: RepeatedTask?
    var watcher = USBIPReadingWatch()
    /// Bytes that wait: while it's quiet, or for the peer to read.
    var held: ByteBuffer?
    var isProcessing = false
    var isReadHeld = false
    var isQuiet = false
    /// NIO may have bytes that the socket hasn't taken.
    var isBehind = false
    /// What NIO says of the end before it comes.
    var lastError: (any Error)?

    init(
        _ identity: USBIPIdentity, _ listener: USBIPListener, _ catalogue: USBIPCatalogue, _ patience: USBIPPatience,
        _ loops: USBIPLoopGuard?, _ loop: any EventLoop, socket: Int32?
    ) {
        self.identity = identity
        self.listener = listener
        self.catalogue = catalogue
        self.patience = patience
        self.loops = loops
        self.loop = loop
        self.socket = socket
    }

    // MARK: - The channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        listener.add(self)
        if !listener.definition.endpoint.mayWait { startTimer() }
        if case .tcp(_, _, .some) = listener.definition.endpoint { return }
        findGuest()
    }

    func startTimer() {
        timer = loop.scheduleTask(in: TimeAmount(patience.request)) { [weak self] in
            self?.refuse("it has imported nothing in time")
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        switch phase {
        case .securing: refuse("no TLS: \(lastError.map(USBIPTLS.reason) ?? "it has closed the connection")")
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
        identity = USBIPIdentity(certificate: bytes)
        findGuest()
    }

    private func findGuest() {
        guard let guest = listener.definition.guest(identity) else { return refuse("it's no guest") }
        phase = .request(guest: guest)
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

    func end(_ reason: USBIPEnd) {
        guard case .serving(let session, let export) = phase else { return }
        phase = .ended
        close()
        let peer = session.peer
        let deadline = loop.scheduleTask(in: TimeAmount(patience.ending)) { session.abandon() }
        session.end { [self] in
            deadline.cancel()
            self.session = nil
            served.withLock { $0 = nil }
            export.returned(peer: peer, reason, unfinished: session.unfinished)
        }
    }

    func close() {
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
