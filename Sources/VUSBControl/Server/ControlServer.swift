// SPDX-License-Identifier: Apache-2.0

import Glibc
import Hummingbird
import HummingbirdCore
package import Logging
import NIOCore
import ServiceLifecycle

/// The control interface: HTTP on a Unix socket.
///
/// `run()` takes the socket's path, serves until graceful shutdown, and removes the file. At shutdown, streams and
/// waits end at once; a request that's half sent gets `patience`, then its connection is closed.
///
/// Concurrency model: all fields are constants. Requests run on tasks of their own, `service` is called from many at
/// once.
package struct ControlServer: Service {
    package var socketPath: String
    package var mode: UInt32
    package var group: String?
    package var service: any ControlService
    package var logger: Logger
    /// Instead of root, the daemon's user and the socket's group.
    package var policy: PeerPolicy?
    /// Of vusb.yaml.
    package var access: [AccessRule] = []
    /// How often a quiet event stream says that it's alive.
    package var heartbeat: Duration = .seconds(15)
    /// How long a connection may be silent, between requests or in the middle of one.
    package var idleTimeout: Duration = .seconds(60)
    /// How many clients are served at once; more wait in the socket's queue. Without an end to them they would take all
    /// descriptors of the process, and the server would run in circles about those that it can't accept.
    package var connectionLimit = ControlServer.defaultConnectionLimit
    /// How long the end waits for requests that are being served.
    package var patience: Duration = .seconds(5)
    /// Called once the socket takes connections.
    package var onListening: @Sendable () async -> Void

    /// - Parameters:
    ///   - socketPath: where the socket is made, with its directory if that's missing.
    ///   - mode: permission bits of the socket's file.
    ///   - group: the name of the group that gets the file and may use the interface, if it exists on this host.
    package init(
        socketPath: String, mode: UInt32 = 0o660, group: String? = "vusb", service: any ControlService,
        logger: Logger, policy: PeerPolicy? = nil, onListening: @escaping @Sendable () async -> Void = {}
    ) {
        self.socketPath = socketPath
        self.mode = mode
        self.group = group
        self.service = service
        self.logger = logger
        self.policy = policy
        self.onListening = onListening
    }

    /// - Throws: `ControlServerError` if the path can't be had.
    package func run() async throws {
        let group = group.flatMap(Accounts.group)
        let file = SocketFile(path: socketPath, mode: mode, group: group)
        try file.prepare()
        let listening = Listening()
        let application = Application(
            responder: ControlResponder(
                service: service, policy: policy ?? PeerPolicy(group: group, rules: access),
                document: try OpenAPIDocument(),
                heartbeat: heartbeat, logger: logger),
            server: .http1(
                configuration: HTTP1Channel.Configuration(
                    additionalChannelHandlers: [MalformedRequestHandler()], idleTimeout: TimeAmount(idleTimeout))),
            configuration: ApplicationConfiguration(
                address: .unixDomainSocket(path: socketPath),
                serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(connectionLimit, logger: quiet)
            ),
            onServerRunning: { channel in await listening.begin(file, channel, then: onListening) },
            logger: quiet)
        let result = await serve(application)
        let identity = await listening.identity
        if let identity { file.remove(identity) }
        if let failure = await listening.failure { throw failure }
        try result.get()
    }

    /// 256, or half of what the process may have open where that's less: devices need descriptors, too.
    private static var defaultConnectionLimit: Int {
        var limit = rlimit()
        // SAFETY: `limit` is a whole rlimit, and getrlimit only writes it.
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 256 }
        return max(1, Int(min(limit.rlim_cur / 2, 256)))
    }

    /// Hummingbird tells of each start; the daemon has words of its own.
    private var quiet: Logger {
        var logger = logger
        logger.logLevel = max(logger.logLevel, .warning)
        return logger
    }

    /// Ends with the server, or `patience` after graceful shutdown began.
    private func serve(_ application: some Service) async -> Result<Void, any Error> {
        await withTaskGroup(of: Result<Void, any Error>?.self) { group in
            group.addTask {
                do {
                    try await application.run()
                    return .success(())
                } catch {
                    return .failure(error)
                }
            }
            group.addTask {
                do {
                    try await gracefulShutdown()
                    try await Task.sleep(for: patience)
                } catch {
                    return nil  // Cancelled: the server ended first.
                }
                return nil
            }
            let first = await group.next().flatMap { $0 }
            group.cancelAll()
            let second = await group.next().flatMap { $0 }
            return first ?? second.flatMap { cutOff($0) } ?? .success(())
        }
    }

    /// The error of a server that was cancelled is no news.
    private func cutOff(_ result: Result<Void, any Error>) -> Result<Void, any Error>? {
        if case .failure = result { return nil }
        return result
    }
}

/// The socket's file from bind(2) on.
private actor Listening {
    private(set) var identity: FileFacts?
    private(set) var failure: ControlServerError?

    func begin(_ file: SocketFile, _ channel: any Channel, then: @Sendable () async -> Void) async {
        do {
            identity = try file.secure()
            await then()
        } catch {
            failure = error
            channel.close(promise: nil)
        }
    }
}
