// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import NIOCore
internal import NIOPosix
internal import Synchronization
internal import VUSBCore

/// Connects to servers.
struct USBIPConnector {
    let group: any EventLoopGroup
    let limit: Duration
    /// Of names; nil for the system's.
    var resolver: (any Resolver & Sendable)?

    /// - Parameter make: the handler of the connection, which is in its pipeline when this returns.
    func connect<Handler: ChannelHandler & Sendable>(
        _ server: USBIPServer, _ make: (any EventLoop) -> Handler
    ) async throws(USBError) -> Handler {
        let attempt = Attempt()
        let loop = group.next()
        let handler = make(loop)
        let bootstrap = bootstrap(server, loop).channelInitializer { channel in
            attempt.add(channel)
            return channel.eventLoop.makeSucceededVoidFuture()
        }
        do {
            let connected =
                switch server {
                case .tcp(let host, let port): bootstrap.connect(host: host, port: Int(port))
                case .unix(let path): bootstrap.connect(unixDomainSocketPath: path)
                case .vsock(let cid, let port):
                    bootstrap.connect(to: VsockAddress(cid: .init(rawValue: cid), port: .init(rawValue: port)))
                }
            try await withTaskCancellationHandler {
                try await connected.flatMap { $0.pipeline.addHandler(handler) }.get()
            } onCancel: {
                attempt.cancel()
            }
            return handler
        } catch {
            throw Self.failure(error)
        }
    }

    /// The channels of which one is going to connect; a task that is cancelled doesn't wait for them.
    ///
    /// Concurrency model: any thread; all state is in one `Mutex`, a leaf.
    private final class Attempt: Sendable {
        private let state = Mutex<(channels: [any Channel], isCancelled: Bool)>(([], false))

        func add(_ channel: any Channel) {
            let isCancelled = state.withLock { state in
                state.channels.append(channel)
                return state.isCancelled
            }
            if isCancelled { channel.close(promise: nil) }
        }

        func cancel() {
            let channels = state.withLock { state in
                state.isCancelled = true
                return state.channels
            }
            for channel in channels { channel.close(promise: nil) }
        }
    }

    private func bootstrap(_ server: USBIPServer, _ loop: any EventLoop) -> ClientBootstrap {
        let bootstrap = ClientBootstrap(group: loop)
            .connectTimeout(TimeAmount(limit))
            .resolver(resolver)
            .channelOption(
                .writeBufferWaterMark, value: .init(low: USBIPLimits.outboxLow, high: USBIPLimits.outboxHigh)
            )
            .channelOption(
                .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: USBIPLimits.receiveBuffer))
        guard case .tcp = server else { return bootstrap }
        return USBIPSocket.peerOptions.reduce(bootstrap) { bootstrap, option in
            let (level, name) = (NIOBSDSocket.OptionLevel(rawValue: option.level), option.name)
            return bootstrap.channelOption(
                ChannelOptions.Types.SocketOption(level: level, name: NIOBSDSocket.Option(rawValue: name)),
                value: ChannelOptions.Types.SocketOption.Value(option.value))
        }
    }

    private static func failure(_ error: any Error) -> USBError {
        switch error {
        case let error as USBError: return error
        case ChannelError.connectTimeout:
            return USBError(
                .timedOut, "the server doesn't answer", remedy: "see whether it's there, and whether a firewall is")
        case let error as NIOConnectionError:
            guard let first = error.connectionErrors.first?.error else {
                return USBError(.notFound, "the server's name has no address", remedy: "see whether it's written right")
            }
            return failure(first)
        case let error as IOError:
            // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
            let text = unsafe String(cString: strerror(error.errnoCode))
            let code: USBError.Code = error.errnoCode == EACCES ? .accessDenied : .io
            return USBError(
                code, "the server can't be reached: \(text)", remedy: "see whether a USB/IP server runs there")
        default: return USBError(.io, "the server can't be reached: \(error)")
        }
    }
}
