// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import NIOCore
internal import NIOPosix
internal import NIOSSL
internal import Synchronization
package import VUSBCore

/// Devices for guests that speak the USB/IP protocol: Linux's `vhci-hcd`.
///
/// Concurrency model: the control plane listens and offers, one call at a time; one thread accepts, all connections are
/// another's, the loop's. Both are made with the first listener: who has none has neither threads nor descriptors of them.
package final class USBIPFront: USBIPServing {
    private struct Threads {
        let group: MultiThreadedEventLoopGroup
        let acceptor: USBIPAcceptor
    }

    private let patience: USBIPPatience
    private let loops: USBIPLoopGuard?
    private let threads = Mutex<Threads?>(nil)
    private let catalogue = USBIPCatalogue()
    private let stream: AsyncStream<USBIPEvent>
    private let continuation: AsyncStream<USBIPEvent>.Continuation

    /// - Parameter loops: with whose source it doesn't import from itself.
    package init(patience: USBIPPatience = USBIPPatience(), loops: USBIPLoopGuard? = nil) {
        self.patience = patience
        self.loops = loops
        (stream, continuation) = AsyncStream.makeStream(of: USBIPEvent.self)
    }

    /// - Throws: `io` where there is no descriptor or thread.
    private func started() throws(USBError) -> Threads {
        if let threads = threads.withLock({ $0 }) { return threads }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        group.any().execute {
            RealTime.enter()
            unsafe CVUSBShims_set_thread_name("vusb-usbip")
        }
        let acceptor: USBIPAcceptor
        do {
            acceptor = try USBIPAcceptor { [catalogue, patience, loops] descriptor, listener in
                Self.accepted(descriptor, listener, group, catalogue, patience, loops)
            }
        } catch {
            // How that ends changes nothing any more.
            group.shutdownGracefully { _ in }
            throw error
        }
        let made = Threads(group: group, acceptor: acceptor)
        threads.withLock { $0 = made }
        return made
    }

    /// What happens, in order. Called once; the stream ends with `stop`.
    package func events() -> AsyncStream<USBIPEvent> { stream }

    /// Peers can connect when it returns.
    /// - Throws: `invalid`, `io`.
    package func listen(_ definition: USBIPListenerDefinition) throws(USBError) -> USBIPListener {
        let threads = try started()
        let listener = try USBIPListener(
            definition, threads.acceptor, catalogue, threads.group.any(), patience
        ) { [continuation] event in
            continuation.yield(event)
        }
        catalogue.add(listener)
        threads.acceptor.add(listener)
        return listener
    }

    /// A device that a guest holds: peers that are this guest may import it from now on.
    /// - Throws: `busy` where the guest has another one at that path.
    package func export(_ device: VirtualDevice, at place: USBIPPlace) throws(USBError) -> USBIPExport {
        let export = USBIPExport(device, at: place) { [continuation] event in
            continuation.yield(event)
        } forget: { [catalogue] export in
            catalogue.remove(export)
        }
        guard catalogue.add(export) else {
            throw USBError(.busy, "guest \(place.guest) has a device at \(place.path) already")
        }
        return export
    }

    /// Ends all: listeners, sessions, and the threads.
    package func stop() async {
        for listener in catalogue.listeners { await listener.end() }
        let threads = threads.withLock { $0 }
        await threads?.acceptor.stop()
        for export in catalogue.all { await export.end() }
        continuation.finish()
        // It fails only where it was ended before.
        try? await threads?.group.shutdownGracefully()
    }

    package func obstacle(at endpoint: USBIPListenerDefinition.Endpoint) -> USBError? {
        USBIPSocket.obstacle(at: endpoint)
    }

    package func serve(_ definition: USBIPListenerDefinition) throws(USBError) -> any USBIPListening {
        try listen(definition)
    }

    package func offer(_ device: VirtualDevice, at place: USBIPPlace) throws(USBError) -> any USBIPExported {
        try export(device, at: place)
    }

    // MARK: - The acceptor's thread

    /// Hands a connection to the loop, and returns when that has it: connections come no faster than that.
    private static func accepted(
        _ descriptor: Int32, _ listener: USBIPListener, _ group: MultiThreadedEventLoopGroup,
        _ catalogue: USBIPCatalogue, _ patience: USBIPPatience, _ loops: USBIPLoopGuard?
    ) {
        guard let identity = USBIPSocket.prepare(descriptor, of: listener.definition.endpoint) else {
            close(descriptor)
            return
        }
        let bootstrap = ClientBootstrap(group: group)
            .channelOption(
                .writeBufferWaterMark, value: .init(low: USBIPLimits.outboxLow, high: USBIPLimits.outboxHigh)
            )
            .channelOption(
                .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: USBIPLimits.requestBuffer)
            )
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let tls = listener.definition.endpoint.tls
                    let connection = USBIPConnection(
                        identity, listener, catalogue, patience, loops, channel.eventLoop,
                        socket: tls == nil ? descriptor : nil)
                    if let tls {
                        try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls.context))
                    }
                    try channel.pipeline.syncOperations.addHandler(connection)
                }
            }
        // One that has failed is closed by NIO; its peer sees that.
        _ = try? bootstrap.withConnectedSocket(descriptor).wait()
    }
}
