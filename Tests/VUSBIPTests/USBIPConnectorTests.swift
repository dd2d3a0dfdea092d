// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

/// How servers are reached. The rows are those of Imports.md.
@Suite("USB/IP imports: connecting")
struct USBIPConnectorTests {
    /// Keeps the channel that it's in.
    private final class Keeper: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        let channel = Mutex<(any Channel)?>(nil)

        func handlerAdded(context: ChannelHandlerContext) {
            let added = context.channel
            channel.withLock { $0 = added }
        }
    }

    @Test("V15: the kernel is told to find out about TCP servers that vanish")
    func keepAlive() async throws {
        let listener = try USBIPSocket.listen(at: .tcp(port: 0))
        defer { close(listener) }
        let server = USBIPServer.tcp(host: "127.0.0.1", port: try #require(USBIPSocket.port(listener)))
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let keeper = try await USBIPConnector(group: group, limit: .seconds(60)).connect(server) { _ in Keeper() }
        let channel = try #require(keeper.channel.withLock { $0 })
        func option(_ level: Int32, _ name: Int32) async throws -> Int {
            let option = ChannelOptions.Types.SocketOption(
                level: NIOBSDSocket.OptionLevel(rawValue: level), name: NIOBSDSocket.Option(rawValue: name))
            return try await channel.getOption(option).get()
        }
        let tcp = Int32(IPPROTO_TCP)
        #expect(try await option(SOL_SOCKET, SO_KEEPALIVE) == 1)
        #expect(try await option(tcp, TCP_KEEPIDLE) == 5)
        #expect(try await option(tcp, TCP_KEEPINTVL) == 2)
        #expect(try await option(tcp, TCP_KEEPCNT) == 3)
        #expect(try await option(tcp, TCP_USER_TIMEOUT) == 10_000)
        #expect(try await option(tcp, TCP_NODELAY) != 0)
        try await group.shutdownGracefully()
    }

    @Test("L7: forgotten while the server's name is being resolved: it's over when that is, and nobody connects")
    func resolving() async throws {
        let listener = try USBIPSocket.listen(at: .tcp(port: 0))
        defer { close(listener) }
        let port = try #require(USBIPSocket.port(listener))
        let remote = try #require(USBIPRemote(server: .tcp(host: "server.invalid", port: port), busID: "1-1"))
        let resolver = USBIPHeldResolver()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let events = Inbox<DeviceEvent>()
        let entry = USBIPImport(
            DeviceID("ip-server"), remote,
            USBIPImport.Surroundings(
                group: group, resolver: resolver, patience: USBIPImporter.once, loops: USBIPLoopGuard(),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            ) { events.append($0) })
        entry.start()
        #expect(await resolver.asked.wait(for: 1) == ["server.invalid"])
        let ending = Task { await entry.end() }
        // It's told when the try was cancelled.
        let first = await entry.firstTry.value()
        #expect(throws: USBError.self) { try first.get() }
        resolver.answer(try SocketAddress(ipAddress: "127.0.0.1", port: Int(port)))
        await ending.value
        #expect(USBIPSocket.accept(listener) == .none)
        #expect(events.elements.isEmpty)
        try await group.shutdownGracefully()
    }
}
