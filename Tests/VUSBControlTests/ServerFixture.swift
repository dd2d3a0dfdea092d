// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import ServiceLifecycle
import Testing
import VUSBControl

/// A control server on a socket of its own, over a fake daemon.
struct ServerFixture: Sendable {
    var socketPath: String
    var service: FakeService
    var client: ControlClient

    static func temporaryDirectory() throws -> String {
        let path = FileManager.default.temporaryDirectory.path + "/vusb-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    static let devices = [
        FakeService.device("emulated:zero-1", serial: "A1"), FakeService.device("1-2.3", serial: "B/2"),
        FakeService.device("emulated:keyboard-1", vendor: "0001", product: "0002"),
    ]

    /// Runs `body` while the server serves, stops it gracefully, and looks that nothing is left.
    static func with(_ body: @Sendable (ServerFixture) async throws -> Void) async throws {
        try await with({ _ in }, body)
    }

    /// - Parameter change: what this test wants of its server.
    static func with(
        _ change: @Sendable (inout ControlServer) -> Void, _ body: @Sendable (ServerFixture) async throws -> Void
    ) async throws {
        let directory = try temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: directory) }  // Left files harm nobody.
        let service = FakeService(devices: devices)
        let (listening, listens) = AsyncStream<Void>.makeStream()
        var server = ControlServer(
            socketPath: directory + "/vusb.sock", service: service,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            onListening: { listens.yield() })
        change(&server)
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [ServiceGroupConfiguration.ServiceConfiguration(service: server)],
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }))
        let running = Task {
            defer { listens.finish() }
            try await group.run()
        }
        for await _ in listening { break }
        let fixture = ServerFixture(
            socketPath: server.socketPath, service: service, client: ControlClient(socketPath: server.socketPath))
        let result = await Result { try await body(fixture) }
        await fixture.client.close()
        await group.triggerGracefulShutdown()
        try await running.value
        await service.untilListening(0)
        await service.untilWaiting(0)
        #expect(!FileManager.default.fileExists(atPath: server.socketPath))
        try result.get()
    }

    /// One raw request on a connection of its own, whole but for `Connection: close`.
    func exchange(_ head: String, fields: [String] = [], body: [UInt8] = []) async throws -> Reply {
        let connection = try RawConnection(socketPath)
        var text = head + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        for field in fields { text += field + "\r\n" }
        if !body.isEmpty { text += "Content-Length: \(body.count)\r\n" }
        await connection.send(Array((text + "\r\n").utf8) + body)
        return try #require(Reply(await connection.receive()))
    }

    func exchange(_ head: String, json: String) async throws -> Reply {
        try await exchange(head, fields: ["Content-Type: application/json"], body: Array(json.utf8))
    }
}

extension Result where Failure == any Error {
    fileprivate init(_ body: () async throws -> Success) async {
        do {
            self = .success(try await body())
        } catch {
            self = .failure(error)
        }
    }
}

extension Reply {
    /// The problem in it.
    var problem: Problem {
        get throws { try JSONDecoder().decode(Problem.self, from: Data(body.utf8)) }
    }
}
