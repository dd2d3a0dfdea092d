// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBVMM

@Suite struct GuestAgentTests {
    private func agent(_ server: FakeServer, _ change: (inout GuestAgent.Limits) -> Void = { _ in }) -> GuestAgent {
        var limits = GuestAgent.Limits()
        limits.sync = .seconds(20)
        limits.command = .seconds(20)
        limits.idle = .seconds(60)
        limits.firstPoll = .microseconds(1)
        change(&limits)
        return GuestAgent(guest: "web1", path: server.path, limits: limits)
    }

    private func info(_ enabled: [String], disabled: [String] = []) -> JSONValue {
        let commands =
            enabled.map { ["name": .string($0), "enabled": true] as JSONValue }
            + disabled.map { ["name": .string($0), "enabled": false] }
        return ["version": "7.2.22", "supported_commands": .array(commands)]
    }

    private func base64(_ bytes: [UInt8]) -> JSONValue { .string(Data(bytes).base64EncodedString()) }

    // MARK: - Sync

    @Test func staleBytesBeforeTheSyncAreSkipped() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        async let answer = agent.execute("guest-ping")
        let peer = try await server.accept()
        let raw = try #require(await peer.line())
        #expect(raw.first == 0xFF)
        let id = JSONValue(parsing: Array(raw.dropFirst()))?["arguments"]?["id"]?.integer ?? 0
        await peer.send(#"{"return": {"stale": true}}"#)
        await peer.send(#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#)
        await peer.send([0xFF] + Array("{\"return\": \(id - 1)}\n".utf8))
        // Not delimited: an older answer that happens to look like it.
        await peer.send("{\"return\": \(id)}")
        // The rest of an answer that was cut off, then the right one.
        await peer.send(Array("\"half\"}".utf8) + [0xFF] + Array("{\"return\": \(id)}\n".utf8))
        try await peer.expect("guest-ping", answer: "pong")
        #expect(try await answer == "pong")
    }

    @Test func anAnswerAfterItsTimeOutIsNotTakenForTheNext() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.execute("guest-get-time", within: .milliseconds(1)) }
        let peer = try await server.acceptAgent()
        _ = try await peer.message()
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .timedOut)
        #expect(error?.message.contains("guest web1 didn't answer guest-get-time") == true)
        async let next = agent.execute("guest-ping")
        await peer.send(["return": "late"])
        try await peer.sync()
        try await peer.expect("guest-ping", answer: "pong")
        #expect(try await next == "pong")
    }

    @Test func aConnectionThatClosedWhileIdleIsMadeAnew() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        async let first = agent.execute("guest-ping")
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-ping", answer: 1)
        #expect(try await first == 1)
        peer.close()
        async let second = agent.execute("guest-ping")
        let other = try await server.acceptAgent()
        try await other.expect("guest-ping", answer: 2)
        #expect(try await second == 2)
    }

    @Test func anUnusedConnectionIsGivenBack() async throws {
        let server = try FakeServer()
        let agent = agent(server) { $0.idle = .milliseconds(1) }
        async let answer = agent.execute("guest-ping")
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-ping", answer: 1)
        #expect(try await answer == 1)
        #expect(await peer.line() == nil)
    }

    @Test func commandsWaitForEachOther() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        async let first = agent.execute("guest-ping")
        let peer = try await server.acceptAgent()
        let command = try await peer.message()
        #expect(command["execute"] == "guest-ping")
        async let second = agent.execute("guest-ping")
        async let third = agent.execute("guest-ping")
        for number in 1...3 {
            if number > 1 { _ = try await peer.message() }
            await peer.send(["return": .integer(number)])
        }
        #expect(try await first == 1)
        let rest = try await [second, third]
        #expect(Set(rest.compactMap(\.integer)) == [2, 3])
    }

    // MARK: - Silence, garbage

    @Test func silenceSaysWhatToInstall() async throws {
        let server = try FakeServer()
        let agent = agent(server) { $0.sync = .milliseconds(1) }
        let error = await #expect(throws: USBError.self) { try await agent.execute("guest-ping") }
        #expect(error?.code == .timedOut)
        #expect(error?.message.contains("guest web1") == true)
        #expect(error?.remedy?.contains("install qemu-guest-agent") == true)
        #expect(error?.remedy?.contains("org.qemu.guest_agent.0") == true)
        // The connection isn't kept.
        #expect(await (try server.accept()).line() != nil)
    }

    @Test(arguments: [("x\n", 20_000), ("x", 4_000_000)])
    func aFloodOfWhatIsNoAnswerIsGivenUp(text: String, count: Int) async throws {
        let server = try FakeServer()
        let agent = agent(server) { $0.line = 1 << 10 }
        let task = Task { try await agent.execute("guest-ping") }
        let peer = try await server.accept()
        _ = await peer.line()
        async let sent: Void = peer.send(Array(String(repeating: text, count: count).utf8))
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .invalid)
        await sent
    }

    @Test func anAnswerOf10MiBIsDroppedAndTheNextCommandWorks() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.execute("guest-ping") }
        let peer = try await server.acceptAgent()
        _ = try await peer.message()
        async let sent: Void = peer.send([UInt8](repeating: 0x20, count: 10 << 20) + [0x0A])
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .io)
        #expect(error?.message.contains("more than 1048576 bytes") == true)
        async let next = agent.execute("guest-ping")
        await sent
        try await peer.sync()
        try await peer.expect("guest-ping", answer: 1)
        #expect(try await next == 1)
    }

    @Test(arguments: ["garbage", "{}", "[]", #"{"return": }"#, #"{"error": 1}"#])
    func anAnswerThatMakesNoSenseNamesCommandAndGuest(line: String) async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.execute("guest-ping") }
        let peer = try await server.acceptAgent()
        _ = try await peer.message()
        await peer.send(line)
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .io)
        #expect(error?.message.contains("guest web1 answered guest-ping") == true)
    }

    @Test func anAgentLostInTheMiddleIsGone() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.execute("guest-ping") }
        let peer = try await server.acceptAgent()
        _ = try await peer.message()
        peer.close()
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .gone)
    }

    @Test func aCancelledCommandEndsAtOnceAndTheNextWorks() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.execute("guest-ping") }
        let peer = try await server.acceptAgent()
        _ = try await peer.message()
        task.cancel()
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        async let next = agent.execute("guest-ping")
        await peer.send(["return": "late"])
        try await peer.sync()
        try await peer.expect("guest-ping", answer: 1)
        #expect(try await next == 1)
    }

    // MARK: - What is allowed

    @Test func blockedCommandsAreAllNamedWithTheRemedyOfTheDistributions() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        async let commands = agent.commands()
        let peer = try await server.acceptAgent()
        let disabled = ["guest-exec", "guest-file-open"]
        let enabled = AgentKernel.commands.filter { !disabled.contains($0) }
        try await peer.expect("guest-info", answer: info(enabled, disabled: disabled))
        let known = try await commands
        #expect(known.version == "7.2.22")
        let error = #expect(throws: USBError.self) { try known.require(AgentKernel.commands, of: "web1") }
        #expect(error?.code == .unsupported)
        #expect(error?.message == "the agent of guest web1 blocks guest-exec, guest-file-open")
        for word in ["BLACKLIST_RPC", "--block-rpcs", "--allow-rpcs", "/etc/sysconfig/qemu-ga"] {
            #expect(error?.remedy?.contains(word) == true)
        }
    }

    @Test func commandsThatAnOldAgentHasNotAreNamed() throws {
        let known = AgentCommands(info(["guest-ping"]))
        let error = #expect(throws: USBError.self) { try known.require(["guest-exec"], of: "web1") }
        #expect(error?.code == .unsupported)
        #expect(error?.message.contains("version 7.2.22, has no guest-exec") == true)
        #expect(AgentCommands(.null).isEnabled.isEmpty)
    }

    /// Texts of qemu-ga 7.2, as it sends them.
    @Test(arguments: [
        ("CommandNotFound", "Command guest-exec has been disabled", USBError.Code.unsupported),
        ("CommandNotFound", "The command guest-exec has not been found", .unsupported),
        ("CommandNotFound", "Command guest-exec has been disabled: the agent is in frozen state", .busy),
        ("GenericError", "Failed to execute child process \u{201C}/x\u{201D} (No such file or directory)", .notFound),
        ("GenericError", "Failed to execute child process \u{201C}/x\u{201D} (Permission denied)", .accessDenied),
        ("GenericError", "failed to open file '/x' (mode: 'rb'): No such file or directory", .notFound),
        ("GenericError", "anything\nelse", .io),
    ]) func refusalsBecomeErrorsThatNameGuestAndCommand(
        errorClass: String, text: String, code: USBError.Code
    ) async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.execute("guest-exec") }
        let peer = try await server.acceptAgent()
        _ = try await peer.message()
        await peer.send(["error": ["class": .string(errorClass), "desc": .string(text)]])
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == code)
        #expect(error?.message.hasPrefix("guest web1 refuses guest-exec: ") == true)
        #expect(error?.message.contains("\n") == false)
        // A refusal is an answer: the stream is in step.
        async let next = agent.execute("guest-ping")
        try await peer.expect("guest-ping", answer: 1)
        #expect(try await next == 1)
    }

    // MARK: - Programs

    @Test func aProgramsOutputAndExitCodeComeBack() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        async let result = agent.run("/bin/uname", ["-r"], limit: .seconds(20))
        let peer = try await server.acceptAgent()
        let arguments = try await peer.expect("guest-exec", answer: ["pid": 42])
        #expect(arguments["path"] == "/bin/uname")
        #expect(arguments["arg"] == ["-r"])
        #expect(arguments["capture-output"] == true)
        for _ in 0..<3 { try await peer.expect("guest-exec-status", answer: ["exited": false]) }
        let status = try await peer.expect(
            "guest-exec-status",
            answer: [
                "exited": true, "exitcode": 3, "out-data": base64(Array("6.1.0\n".utf8)),
                "err-data": base64([0xFF, 0]),
            ])
        #expect(status == ["pid": 42])
        #expect(try await result == ProgramResult(end: .exited(3), output: Array("6.1.0\n".utf8), errors: [0xFF, 0]))
    }

    @Test func aKilledProgramTellsItsSignal() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        async let result = agent.run("/bin/x", [], limit: .seconds(20))
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-exec", answer: ["pid": 42])
        try await peer.expect("guest-exec-status", answer: ["exited": true, "signal": 9])
        #expect(try await result == ProgramResult(end: .signalled(9)))
    }

    @Test(arguments: [
        ["exited": true] as JSONValue, ["exited": true, "exitcode": 0, "out-data": "!"],
        ["exited": true, "exitcode": 0, "out-data": 1],
        ["exited": true, "exitcode": 0, "out-data": "YQ==", "out-truncated": true],
    ]) func aStatusThatMakesNoSenseIsAnError(status: JSONValue) async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.run("/bin/x", [], limit: .seconds(20)) }
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-exec", answer: ["pid": 42])
        try await peer.expect("guest-exec-status", answer: status)
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .io)
    }

    @Test func aProgramThatDoesNotEndIsNamedAtTheDeadline() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.run("/bin/x", [], limit: .zero) }
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-exec", answer: ["pid": 42])
        try await peer.expect("guest-exec-status", answer: ["exited": false])
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .timedOut)
        #expect(error?.message.contains("/bin/x in guest web1 still runs") == true)
        #expect(error?.message.contains("process 42") == true)
    }

    // MARK: - Files

    @Test func aFileIsCopiedInChunksWithProgress() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let content = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let progress = Inbox<Int>()
        let task = Task { try await agent.writeFile("/run/x.ko", content) { progress.append($0) } }
        let peer = try await server.acceptAgent()
        #expect(
            try await peer.expect("guest-file-open", answer: 1000) == ["path": "/run/x.ko", "mode": "wb"])
        var written: [UInt8] = []
        var sizes: [Int] = []
        while written.count < content.count {
            let command = try await peer.message()
            #expect(command["execute"] == "guest-file-write")
            #expect(command["arguments"]?["handle"] == 1000)
            let chunk = try #require(Data(base64Encoded: command["arguments"]?["buf-b64"]?.string ?? "!"))
            // The agent may take less than it was given.
            let taken = sizes.isEmpty ? 1000 : chunk.count
            written += chunk.prefix(taken)
            sizes.append(chunk.count)
            await peer.send(["return": ["count": .integer(taken), "eof": false]])
        }
        try await peer.expect("guest-file-flush", answer: [:])
        try await peer.expect("guest-file-close", answer: [:])
        try await task.value
        #expect(written == content)
        #expect(sizes == [49152, 49152, 49152, 696])
        #expect(progress.elements == [1000, 50152, 99304, 100_000])
    }

    @Test func aFileThatCannotBeWrittenIsClosed() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.writeFile("/run/x.ko", [1, 2, 3]) }
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-file-open", answer: 1000)
        _ = try await peer.message()
        await peer.send([
            "error": ["class": "GenericError", "desc": "failed to write to file: No space left on device"]
        ])
        #expect(try await peer.expect("guest-file-close", answer: [:]) == ["handle": 1000])
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.message.contains("No space left on device") == true)
    }

    @Test(arguments: [0, -1, 4]) func aCountThatCannotBeIsAnError(count: Int) async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.writeFile("/run/x.ko", [1, 2, 3]) }
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-file-open", answer: 1000)
        try await peer.expect("guest-file-write", answer: ["count": .integer(count), "eof": false])
        try await peer.expect("guest-file-close", answer: [:])
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .io)
    }

    @Test func aFileIsReadToItsEndOrTheLimit() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        async let whole = agent.readFile("/proc/modules", limit: 1 << 20)
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-file-open", answer: 1000)
        try await peer.expect("guest-file-read", answer: ["count": 2, "buf-b64": base64([1, 2]), "eof": false])
        try await peer.expect("guest-file-read", answer: ["count": 1, "buf-b64": base64([3]), "eof": true])
        try await peer.expect("guest-file-close", answer: [:])
        #expect(try await whole == [1, 2, 3])

        async let part = agent.readFile("/proc/modules", limit: 2)
        try await peer.expect("guest-file-open", answer: 1001)
        let arguments = try await peer.expect(
            "guest-file-read", answer: ["count": 2, "buf-b64": base64([1, 2]), "eof": false])
        #expect(arguments["count"] == 2)
        try await peer.expect("guest-file-close", answer: [:])
        #expect(try await part == [1, 2])
    }

    @Test func moreBytesThanWereAskedForAreAnError() async throws {
        let server = try FakeServer()
        let agent = agent(server)
        let task = Task { try await agent.readFile("/proc/modules", limit: 2) }
        let peer = try await server.acceptAgent()
        try await peer.expect("guest-file-open", answer: 1000)
        try await peer.expect("guest-file-read", answer: ["count": 3, "buf-b64": base64([1, 2, 3]), "eof": false])
        try await peer.expect("guest-file-close", answer: [:])
        await #expect(throws: USBError.self) { try await task.value }
    }
}
