// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import Testing
import VUSBCore

@testable import VUSBVMM

@Suite struct QEMUConnectorTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func connector(greeting: Duration = .seconds(20)) -> QEMUConnector {
        var limits = QEMUConnector.Limits()
        limits.backOff = QEMUMonitor.BackOff(first: .milliseconds(1), longest: .milliseconds(5))
        limits.monitor.greeting = greeting
        return QEMUConnector(limits: limits, logger: logger)
    }

    private func bind(
        _ connector: QEMUConnector, _ server: FakeServer, status: String = "running"
    ) async throws -> FakePeer {
        async let peer = server.acceptMonitor(status: status)
        try await connector.bind("web1", GuestPlace(monitorSocket: server.path))
        return try await peer
    }

    @Test func aBoundMachineIsFoundWhereItIsAndItsEventsAreTold() async throws {
        let server = try FakeServer()
        let connector = connector()
        let peer = try await bind(connector, server)
        #expect(try await connector.guests() == [VMMGuest(name: "web1", state: .running)])
        for name in ["STOP", "RESUME", "POWERDOWN", "RESET"] { await peer.event(name) }
        await peer.event("SHUTDOWN", ["guest": true, "reason": "guest-shutdown"])
        var events = connector.events().makeAsyncIterator()
        var kinds: [VMMEvent.Kind?] = []
        for _ in 0..<3 { kinds.append(await events.next()?.kind) }
        #expect(kinds == [.stopped, .resumed, .reset])
        #expect(
            await events.next() == VMMEvent(guest: "web1", kind: .off, detail: "SHUTDOWN: guest-shutdown"))
        #expect(try await connector.guests().map(\.state) == [.off])
        await connector.stop()
        #expect(await events.next() == nil)
        #expect(await peer.line() == nil)
    }

    @Test func aQEMUThatDiesIsOffAndOneThatComesBackIsStarted() async throws {
        let server = try FakeServer()
        let connector = connector()
        let first = try await bind(connector, server)
        first.close()
        var events = connector.events().makeAsyncIterator()
        #expect(await events.next()?.kind == .off)
        let second = try await server.acceptMonitor(status: "prelaunch")
        #expect(await events.next()?.kind == .stopped)
        await second.event("RESUME")
        #expect(await events.next()?.kind == .started)
        #expect(try await connector.guests().map(\.state) == [.running])
        await connector.stop()
    }

    @Test func aMachineThatIsOffIsWatchedForItsStart() async throws {
        let server = try FakeServer()
        let away = try FakeServer()
        away.stop()
        let connector = connector()
        try await connector.bind("web2", GuestPlace(monitorSocket: away.path))
        #expect(try await connector.guests().map(\.state) == [.off])
        // The name appears where nobody was.
        try FileManager.default.linkItem(atPath: server.path, toPath: away.path)
        let peer = try await server.acceptMonitor(status: "running")
        var events = connector.events().makeAsyncIterator()
        #expect(await events.next()?.kind == .started)
        await connector.stop()
        withExtendedLifetime(peer) {}
    }

    @Test func aMachineThatDoesNotGreetIsWatchedWhereThatIsAskedFor() async throws {
        let server = try FakeServer()
        let connector = connector(greeting: .milliseconds(100))
        let place = GuestPlace(monitorSocket: server.path)
        let error = await #expect(throws: USBError.self) { try await connector.bind("web1", place) }
        #expect(error?.code == .busy)
        #expect(try await connector.guests().isEmpty)
        try await connector.bind("web1", place, waits: true)
        #expect(try await connector.guests().map(\.state) == [.off])
        #expect(await connector.fault(of: "web1")?.message.hasPrefix("QEMU doesn't greet") == true)
        // Connections that were given up come first.
        var peer: FakePeer?
        while peer == nil { peer = try? await server.acceptMonitor(status: "running") }
        var events = connector.events().makeAsyncIterator()
        #expect(await events.next()?.kind == .started)
        #expect(await connector.fault(of: "web1") == nil)
        await connector.stop()
        withExtendedLifetime(peer) {}
    }

    @Test func garbageIsALostMonitorAndTheNextConnectionFindsTheMachine() async throws {
        let server = try FakeServer()
        let connector = connector()
        let first = try await bind(connector, server)
        await first.send("garbage")
        var events = connector.events().makeAsyncIterator()
        let off = await events.next()
        #expect(off?.kind == .off)
        #expect(off?.detail?.contains("isn't QMP") == true)
        let second = try await server.acceptMonitor(status: "running")
        #expect(await events.next()?.kind == .started)
        await connector.stop()
        withExtendedLifetime(second) {}
    }

    @Test func anUnboundMachineTellsNothingMore() async throws {
        let server = try FakeServer()
        let connector = connector()
        let peer = try await bind(connector, server)
        await connector.unbind("web1")
        #expect(await peer.line() == nil)
        #expect(try await connector.guests().isEmpty)
        await connector.stop()
        var events = connector.events().makeAsyncIterator()
        #expect(await events.next() == nil)
    }

    @Test func aSecondBindingIsRefused() async throws {
        let server = try FakeServer()
        let connector = connector()
        let peer = try await bind(connector, server)
        let error = await #expect(throws: USBError.self) {
            try await connector.bind("web1", GuestPlace(monitorSocket: server.path))
        }
        #expect(error?.code == .busy)
        await connector.stop()
        withExtendedLifetime(peer) {}
    }

    @Test func aSocketThatIsNotQMPIsRefusedAtOnce() async throws {
        let server = try FakeServer()
        let connector = connector()
        async let peer = server.accept()
        let task = Task { try await connector.bind("web1", GuestPlace(monitorSocket: server.path)) }
        try await peer.send("login:")
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .invalid)
        #expect(try await connector.guests().isEmpty)
    }

    @Test func aCancelledBindLeavesNothing() async throws {
        let server = try FakeServer()
        let connector = connector()
        let task = Task { try await connector.bind("web1", GuestPlace(monitorSocket: server.path)) }
        let peer = try await server.accept()
        task.cancel()
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        #expect(await peer.line() == nil)
        #expect(try await connector.guests().isEmpty)
    }

    @Test func aPlaceWithoutAMonitorSocketIsRefused() async throws {
        let connector = connector()
        let error = await #expect(throws: USBError.self) { try await connector.bind("web1", GuestPlace()) }
        #expect(error?.code == .invalid)
        #expect(error?.remedy?.contains("-qmp") == true)
    }

    @Test func thereIsNoWayIntoAMachineThatIsOffPausedOrHasNoAgentSocket() async throws {
        let server = try FakeServer()
        let connector = connector()
        await #expect(throws: USBError.self) { try await connector.kernel(of: "web1") }
        let peer = try await bind(connector, server)
        var error = await #expect(throws: USBError.self) { try await connector.kernel(of: "web1") }
        #expect(error?.code == .unsupported)
        #expect(error?.remedy?.contains("org.qemu.guest_agent.0") == true)
        await connector.unbind("web1")
        withExtendedLifetime(peer) {}

        async let second = server.acceptMonitor(status: "paused")
        try await connector.bind("web1", GuestPlace(monitorSocket: server.path, agentSocket: "/nonexistent/agent"))
        error = await #expect(throws: USBError.self) { try await connector.kernel(of: "web1") }
        #expect(error?.code == .busy)
        let paused = try await second
        paused.close()
        server.stop()
        var events = connector.events().makeAsyncIterator()
        while let event = await events.next(), event.kind != .off {}
        error = await #expect(throws: USBError.self) { try await connector.kernel(of: "web1") }
        #expect(error?.code == .gone)
        #expect(error?.message.hasPrefix("guest web1 is off") == true)
        await connector.stop()
    }

    // MARK: - The guest's kernel

    /// A bound machine, and an agent that answers `guest-info`.
    private func kernel(
        _ connector: QEMUConnector, _ server: FakeServer, _ agentServer: FakeServer
    ) async throws -> (kernel: any GuestKernel, monitor: FakePeer, agent: FakePeer) {
        async let monitor = server.acceptMonitor(status: "running")
        try await connector.bind("web1", GuestPlace(monitorSocket: server.path, agentSocket: agentServer.path))
        async let kernel = connector.kernel(of: "web1")
        let agent = try await agentServer.acceptAgent()
        let commands = AgentKernel.commands.map { ["name": .string($0), "enabled": true] as JSONValue }
        try await agent.expect("guest-info", answer: ["version": "7.2.22", "supported_commands": .array(commands)])
        return (try await kernel, try await monitor, agent)
    }

    /// Expects a program to be run, and ends it so.
    /// - Returns: its path and arguments.
    private func expectProgram(
        _ agent: FakePeer, code: Int = 0, errors: String = ""
    ) async throws -> [String] {
        let arguments = try await agent.expect("guest-exec", answer: ["pid": 1])
        try await agent.expect(
            "guest-exec-status",
            answer: [
                "exited": true, "exitcode": .integer(code),
                "err-data": .string(Data(errors.utf8).base64EncodedString()),
            ])
        return ([arguments["path"]] + (arguments["arg"]?.array ?? [])).compactMap { $0?.string }
    }

    /// Expects the file's one chunk.
    private func expectFile(_ agent: FakePeer, handle: Int) async throws -> (path: String?, content: [UInt8]) {
        let opened = try await agent.expect("guest-file-open", answer: .integer(handle))
        let command = try await agent.message()
        let bytes = [UInt8](Data(base64Encoded: command["arguments"]?["buf-b64"]?.string ?? "") ?? Data())
        await agent.send(["return": ["count": .integer(bytes.count), "eof": false]])
        try await agent.expect("guest-file-flush", answer: [:])
        try await agent.expect("guest-file-close", answer: [:])
        return (opened["path"]?.string, bytes)
    }

    @Test func aModuleIsCopiedWhereOnlyRootGetsLoadedAndRemoved() async throws {
        let server = try FakeServer()
        let agentServer = try FakeServer()
        let connector = connector()
        let (kernel, monitor, agent) = try await kernel(connector, server, agentServer)
        #expect(kernel.description == "guest web1")
        async let loaded: Void = kernel.insmod("vusb_hcd", image: [1, 2, 3], parameters: "path=/vusb/hcd ports=8") {
            _ in
        }
        let mkdir = try await expectProgram(agent)
        #expect(mkdir.dropLast() == ["/bin/mkdir", "-m", "700"])
        let directory = try #require(mkdir.last)
        #expect(directory.hasPrefix("/run/vusb-"))
        let file = try await expectFile(agent, handle: 1000)
        #expect(file.path == directory + "/vusb_hcd.ko")
        #expect(file.content == [1, 2, 3])
        #expect(
            try await expectProgram(agent) == [
                "/sbin/insmod", directory + "/vusb_hcd.ko", "path=/vusb/hcd", "ports=8",
            ])
        #expect(try await expectProgram(agent) == ["/bin/rm", "-r", "-f", directory])
        try await loaded
        await connector.stop()
        withExtendedLifetime(monitor) {}
    }

    /// Texts of kmod 30 and busybox 1.35.
    @Test(arguments: [
        ("insmod: ERROR: could not insert module /run/x.ko: File exists", USBError.Code.busy),
        ("insmod: can't insert '/run/x.ko': invalid module format", .invalid),
        ("insmod: ERROR: could not insert module /run/x.ko: Invalid module format", .invalid),
        ("insmod: ERROR: could not insert module /run/x.ko: Key was rejected by service", .accessDenied),
        ("insmod: ERROR: could not insert module /run/x.ko: Unknown symbol in module", .notFound),
        ("Segmentation fault", .io),
    ]) func whatInsmodSaysIsToldAndNothingIsLeftInTheGuest(text: String, code: USBError.Code) async throws {
        let server = try FakeServer()
        let agentServer = try FakeServer()
        let connector = connector()
        let (kernel, monitor, agent) = try await kernel(connector, server, agentServer)
        let task = Task { try await kernel.insmod("vusb_hcd", image: [1], parameters: "") { _ in } }
        _ = try await expectProgram(agent)
        _ = try await expectFile(agent, handle: 1000)
        _ = try await expectProgram(agent, code: 1, errors: text + "\n")
        #expect(try await expectProgram(agent).contains("-r"))
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == code)
        #expect(error?.message == "insmod of vusb_hcd in guest web1 failed: \(text)")
        await connector.stop()
        withExtendedLifetime(monitor) {}
    }

    @Test(arguments: [
        ("rmmod: ERROR: Module vusb_hcd is in use", USBError.Code.busy),
        ("rmmod: can't unload module 'vusb_hcd': Resource temporarily unavailable", .busy),
        ("rmmod: ERROR: Module vusb_hcd is not currently loaded", .notFound),
        ("rmmod: can't unload module 'vusb_hcd': No such file or directory", .notFound),
    ]) func whatRmmodSaysIsTold(text: String, code: USBError.Code) async throws {
        let server = try FakeServer()
        let agentServer = try FakeServer()
        let connector = connector()
        let (kernel, monitor, agent) = try await kernel(connector, server, agentServer)
        let task = Task { try await kernel.rmmod("vusb_hcd") }
        #expect(try await expectProgram(agent, code: 1, errors: text) == ["/sbin/rmmod", "vusb_hcd"])
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == code)
        await connector.stop()
        withExtendedLifetime(monitor) {}
    }

    @Test func aProgramElsewhereIsFound() async throws {
        let server = try FakeServer()
        let agentServer = try FakeServer()
        let connector = connector()
        let (kernel, monitor, agent) = try await kernel(connector, server, agentServer)
        async let removed: Void = kernel.rmmod("vusb_hcd")
        #expect(try await agent.message()["arguments"]?["path"] == "/sbin/rmmod")
        await agent.send([
            "error": [
                "class": "GenericError",
                "desc": "Failed to execute child process \u{201C}/sbin/rmmod\u{201D} (No such file or directory)",
            ]
        ])
        #expect(try await expectProgram(agent).first == "/bin/rmmod")
        try await removed
        await connector.stop()
        withExtendedLifetime(monitor) {}
    }

    @Test(arguments: [
        ("unix:", false, "no program in guest web1 has opened"), ("disconnected:unix:", false, "no program in guest"),
        ("unix:", true, "has its port open and doesn't answer"), ("unix:/other", false, "doesn't answer at"),
    ]) func aSilentAgentIsExplainedByWhatQEMUKnows(prefix: String, isOpen: Bool, words: String) async throws {
        let server = try FakeServer()
        let agentServer = try FakeServer()
        var limits = QEMUConnector.Limits()
        limits.agent.sync = .milliseconds(1)
        limits.monitor.greeting = .seconds(20)
        let connector = QEMUConnector(limits: limits, logger: logger)
        async let accepted = server.acceptMonitor(status: "running")
        try await connector.bind("web1", GuestPlace(monitorSocket: server.path, agentSocket: agentServer.path))
        let monitor = try await accepted
        let task = Task { try await connector.kernel(of: "web1") }
        let command = try await monitor.message()
        #expect(command["execute"] == "query-chardev")
        let filename = "\(prefix)\(agentServer.path),server=on"
        try await monitor.answer(
            command, [["label": "ga", "filename": .string(filename), "frontend-open": .bool(isOpen)]])
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .timedOut)
        #expect(error?.message.contains(words) == true)
        await connector.stop()
    }
}
