// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import Testing
import VUSBCore

@testable import VUSBVMM

@Suite struct QMPClientTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// On a machine with much else to do the server's greeting takes its time.
    private static let patient = QMPClient.Limits(greeting: .seconds(20))

    private func connect(
        _ server: FakeServer, _ limits: QMPClient.Limits = Self.patient
    ) async throws -> (QMPClient, FakePeer) {
        async let peer = server.acceptQMP()
        let client = try await QMPClient.connect(to: server.path, limits: limits, logger: logger)
        return (client, try await peer)
    }

    /// The error of a connection to a server that does what `serve` says.
    private func refusal(
        _ limits: QMPClient.Limits = Self.patient, _ serve: @Sendable @escaping (FakePeer) async throws -> Void
    ) async throws -> USBError? {
        let server = try FakeServer()
        async let served: Void = serve(server.accept())
        let error = await #expect(throws: USBError.self) {
            try await QMPClient.connect(to: server.path, limits: limits, logger: logger)
        }
        try await served
        #expect(error?.message.contains(server.path) == true)
        return error
    }

    @Test func theGreetingGivesQEMUsVersion() async throws {
        let server = try FakeServer()
        let (client, _) = try await connect(server)
        #expect(client.version == "7.2.22")
        client.close()
    }

    @Test func answersOutOfOrderReachTheirCommands() async throws {
        let server = try FakeServer()
        let (client, peer) = try await connect(server)
        async let first = client.execute("query-status")
        let firstCommand = try await peer.message()
        async let second = client.execute("query-name", ["x": 1])
        let secondCommand = try await peer.message()
        #expect(secondCommand["arguments"] == ["x": 1])
        try await peer.answer(secondCommand, "second")
        await peer.event("RESUME")
        try await peer.answer(firstCommand, "first")
        #expect(try await first == "first")
        #expect(try await second == "second")
        var events = client.events.makeAsyncIterator()
        #expect(await events.next()?.name == "RESUME")
        client.close()
        #expect(await events.next() == nil)
    }

    @Test func aRefusalKeepsClassAndText() async throws {
        let server = try FakeServer()
        let (client, peer) = try await connect(server)
        let task = Task { try await client.execute("device_del", ["id": "x"]) }
        let command = try await peer.message()
        await peer.send([
            "error": ["class": "DeviceNotFound", "desc": "Device 'x' not found"], "id": command["id"] ?? .null,
        ])
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .notFound)
        #expect(error?.message.contains("Device 'x' not found (DeviceNotFound)") == true)
        client.close()
    }

    @Test func anAnswerThatComesTooLateIsDropped() async throws {
        let server = try FakeServer()
        let (client, peer) = try await connect(server)
        let error = await #expect(throws: USBError.self) {
            try await client.execute("query-status", within: .milliseconds(1))
        }
        #expect(error?.code == .timedOut)
        let late = try await peer.message()
        async let next = client.execute("query-name")
        let command = try await peer.message()
        try await peer.answer(late, "late")
        try await peer.answer(command, "in time")
        #expect(try await next == "in time")
        client.close()
    }

    @Test func aCancelledCommandEndsAtOnce() async throws {
        let server = try FakeServer()
        let (client, peer) = try await connect(server)
        let task = Task { try await client.execute("query-status") }
        _ = try await peer.message()
        task.cancel()
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        client.close()
    }

    @Test func aSocketThatClosesInTheMiddleEndsCommandsAndEvents() async throws {
        let server = try FakeServer()
        let (client, peer) = try await connect(server)
        let task = Task { try await client.execute("query-status") }
        _ = try await peer.message()
        await peer.send(Array(#"{"return": {"status": "#.utf8))
        peer.close()
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .gone)
        #expect(error?.message.contains(server.path) == true)
        var events = client.events.makeAsyncIterator()
        #expect(await events.next() == nil)
        #expect(client.end?.code == .gone)
        await #expect(throws: USBError.self) { try await client.execute("query-status") }
    }

    @Test func garbageEndsTheConnection() async throws {
        let server = try FakeServer()
        let (client, peer) = try await connect(server)
        await peer.send("(qemu) info status")
        var events = client.events.makeAsyncIterator()
        #expect(await events.next() == nil)
        #expect(client.end?.message.contains("isn't QMP") == true)
        #expect(await peer.line() == nil)
    }

    @Test func aLineOf10MiBEndsTheConnectionAndNamesTheSocket() async throws {
        let server = try FakeServer()
        let (client, peer) = try await connect(server)
        async let sent: Void = peer.send([UInt8](repeating: 0x20, count: 10 << 20))
        var events = client.events.makeAsyncIterator()
        #expect(await events.next() == nil)
        #expect(client.end?.message.contains("\(server.path) was too long") == true)
        await sent
    }

    @Test func moreEventsThanAnybodyFetchesEndTheConnection() async throws {
        let server = try FakeServer()
        var limits = Self.patient
        limits.events = 4
        let (client, peer) = try await connect(server, limits)
        for _ in 0..<5 { await peer.event("RESET") }
        // The end of the stream at the other side says that the client is done.
        #expect(await peer.line() == nil)
        var count = 0
        for await _ in client.events { count += 1 }
        #expect(count == 4)
        #expect(client.end?.message.contains("tells more") == true)
    }

    @Test func aSocketThatDoesNotGreetIsSomebodyElses() async throws {
        var limits = QMPClient.Limits()
        limits.greeting = .milliseconds(1)
        let error = try await refusal(limits) { peer in #expect(await peer.line() == nil) }
        #expect(error?.code == .busy)
        #expect(error?.remedy?.contains("-qmp unix:") == true)
    }

    @Test func aFullBacklogIsSomebodyElses() async throws {
        let server = try FakeServer(backlog: 0)
        let first = try LineSocket(path: server.path, lineLimit: 100)
        let error = await #expect(throws: USBError.self) {
            try await QMPClient.connect(to: server.path, logger: logger)
        }
        #expect(error?.code == .busy)
        first.close()
    }

    @Test func aConsoleIsNotQMP() async throws {
        let error = try await refusal { await $0.send("Debian GNU/Linux 12 web1 ttyS0") }
        #expect(error?.code == .invalid)
    }

    @Test func aSocketThatClosesBeforeItGreetsIsGone() async throws {
        let error = try await refusal { $0.close() }
        #expect(error?.code == .gone)
    }

    @Test func whatIsNotThereIsNamed() async throws {
        let server = try FakeServer()
        let missing = server.path + "-missing"
        var error = await #expect(throws: USBError.self) { try await QMPClient.connect(to: missing, logger: logger) }
        #expect(error?.code == .notFound)
        #expect(error?.message.contains(missing) == true)
        let long = "/" + String(repeating: "x", count: 200)
        error = await #expect(throws: USBError.self) { try await QMPClient.connect(to: long, logger: logger) }
        #expect(error?.code == .invalid)
    }
}
