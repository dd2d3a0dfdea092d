// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Testing
import VUSBControl

/// The built program, run as people run it.
@Suite struct VusbctlTests {
    struct Run: Sendable {
        var code: Int32
        var output: String
        var errors: String
    }

    /// Beside the tests' own program.
    private static let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appendingPathComponent("vusbctl")

    /// - Parameter started: gets the process's number once it runs.
    private static func run(
        _ arguments: [String], socket: String = "/nonexistent/vusb.sock",
        started: @escaping @Sendable (Int32) -> Void = { _ in }
    ) async throws -> Run {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(with: Result { try runBlocking(arguments, socket: socket, started) })
            }
        }
    }

    private static func runBlocking(
        _ arguments: [String], socket: String, _ started: (Int32) -> Void
    ) throws -> Run {
        let process = Process()
        process.executableURL = program
        process.arguments = arguments
        var environment = ProcessInfo.processInfo.environment
        environment["VUSB_SOCKET"] = socket
        process.environment = environment
        let directory = try ServerFixture.temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: directory) }  // Left files harm nobody.
        let paths = [directory + "/out", directory + "/err"]
        for path in paths { try Data().write(to: URL(fileURLWithPath: path)) }
        process.standardOutput = FileHandle(forWritingAtPath: paths[0])
        process.standardError = FileHandle(forWritingAtPath: paths[1])
        try process.run()
        started(process.processIdentifier)
        process.waitUntilExit()
        let texts = try paths.map { try String(contentsOfFile: $0, encoding: .utf8) }
        let code = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
        return Run(code: code, output: texts[0], errors: texts[1])
    }

    @Test(arguments: [
        ["frob"], ["load"], ["attach", "1-1"], ["status", "extra"], ["status", "--frob"], ["detach"],
        ["unload", "a", "--on-deadline", "later"],
        ["unload", "a", "--cancel", "--on-deadline", "refuse"], ["modules", "6.1.0"], ["guest", "add", "--qmp"],
        ["guest", "frob"],
        ["watch", "--after", "-1"], ["--socket"], ["import"], ["import", "a", "--keep-trying"],
        ["import", "a", "--name", "b"],
        ["forget"], ["imports", "a"],
    ])
    func wrongUsageEndsWith2(arguments: [String]) async throws {
        let run = try await Self.run(arguments)
        #expect(run.code == 2, "\(arguments): \(run)")
        #expect(!run.errors.isEmpty)
        #expect(run.output.isEmpty)
    }

    @Test(arguments: [
        (["unload", "a", "--deadline", "soon"], "'--deadline <time>': it must be a time from 0s to 1h"),
        (["unload", "a", "--deadline", "-1s"], "'--deadline <time>': it must be a time from 0s to 1h"),
        (["focus", "a", "--deadline", "61m"], "'--deadline <time>': it must be a time from 0s to 1h"),
        (["hold", "1-1", "--for", "0s"], "'--for <time>': it must be a time from 1s to 24h"),
        (["hold", "1-1", "--for", "25h"], "'--for <time>': it must be a time from 1s to 24h"),
        (["guest", "add", "a", "--heartbeat", "999ms"], "'--heartbeat <time>': it must be a time from 1s to 1h"),
        (["guest", "add", "a", "--priority", "-1"], "'--priority <priority>': it must be a number from 0 to 99"),
        (["guest", "add", "a", "--max-urbs", "0"], "'--max-urbs <max-urbs>': it must be a number from 1 to"),
        (["load", "a", "--process", "x"], "'--process <pid>': it must be a number from 1 to 4194304"),
    ])
    func whatIsOutOfRangeIsToldInTheOptionsWords(arguments: [String], message: String) async throws {
        let run = try await Self.run(arguments)
        #expect(run.code == 2, "\(arguments): \(run)")
        #expect(run.errors.contains("The value '\(arguments.last ?? "")' is invalid for \(message)"), "\(run)")
    }

    @Test func helpVersionAndCompletionsEndWith0() async throws {
        for arguments in [["--help"], ["help", "attach"], ["guest", "add", "--help"]] {
            let run = try await Self.run(arguments)
            #expect(run.code == 0, "\(arguments)")
            #expect(run.output.contains("USAGE"), "\(arguments)")
        }
        #expect(try await Self.run(["--version"]).output == Version.current + "\n")
        for shell in ["bash", "zsh", "fish"] {
            let run = try await Self.run(["--generate-completion-script", shell])
            #expect(run.code == 0)
            #expect(run.output.contains("vusbctl"))
        }
    }

    @Test func withoutADaemonEveryCommandEndsWith1AndSaysHowToStartIt() async throws {
        let run = try await Self.run(["devices"])
        #expect(run.code == 1)
        #expect(run.errors.contains("vusbd isn't running at /nonexistent/vusb.sock: start it with"))
    }

    @Test func doctorWithoutADaemonLooksByItself() async throws {
        let run = try await Self.run(["doctor", "--json"])
        let findings = try JSONDecoder().decode([Finding].self, from: Data(run.output.utf8))
        #expect(run.code == 1)
        #expect(findings.first?.check == "daemon")
        #expect(findings.contains { $0.check == "fuse-device" })
    }

    @Test func commandsWorkAgainstAServer() async throws {
        try await ServerFixture.with { fixture in
            let socket = fixture.socketPath
            let commands = [
                ["status"], ["devices"], ["guests"], ["guest", "add", "demo", "--device", "1-2.3"],
                ["guest", "add", "vm1", "--connector", "qemu", "--qmp", "/run/vm1/qmp", "--agent", "/run/vm1/agent"]
                    + ["--share", "virtiofs:vusb", "--policy", "on-demand", "--mode", "module"],
                ["modules"], ["load", "vm1", "--mode", "module"], ["load", "demo", "--process", "1"],
                ["attach", "0525:a4a0:A1", "demo"], ["operations"],
                ["detach", "1-2.3", "--deadline", "500ms", "--cancel"], ["type", "0001:0002", "hi"],
                ["emulate", "zero"], ["unplug", "emulated:zero-4"], ["unload", "demo"], ["guest", "rm", "demo"],
                ["doctor"],
            ]
            for arguments in commands {
                let run = try await Self.run(arguments, socket: socket)
                #expect(run.code == 0, "\(arguments): \(run)")
            }
            #expect(await fixture.service.releases.first == ReleaseRequest(deadlineSeconds: 0.5, onDeadline: .cancel))
            #expect(await fixture.service.loads == [LoadRequest(mode: "module"), LoadRequest(process: 1)])
            let machine = try await fixture.client.guest("vm1")
            #expect([machine.connector, machine.mode, machine.policy] == ["qemu", "module", "on-demand"])
            #expect([machine.qmp, machine.agent] == ["/run/vm1/qmp", "/run/vm1/agent"])
            #expect(machine.share == "virtiofs:vusb")
            #expect(await fixture.service.typed == ["hi"])
        }
    }

    @Test func importsAreMadeListedAndForgotten() async throws {
        try await ServerFixture.with { fixture in
            let socket = fixture.socketPath
            let made = try await Self.run(["import", "unix:/run/x", "1-1", "--name", "a.b"], socket: socket)
            #expect(made.output == "ip-a.b\n", "\(made)")
            let kept = try await Self.run(["import", "10.0.0.2", "1-2", "--keep-trying"], socket: socket)
            #expect(kept.output == "ip-10.0.0.2-1-2\n", "\(kept)")
            let lines = try await Self.run(["imports"], socket: socket).output.split(separator: "\n").map {
                $0.split(separator: " ").joined(separator: " ")
            }
            #expect(
                lines == [
                    "DEVICE SERVER BUSID STATE SINCE DECLARED BY REASON",
                    "ip-a.b unix:/run/x 1-1 imported 2026-01-01T00:00:00Z control -",
                    "ip-10.0.0.2-1-2 10.0.0.2 1-2 waiting 2026-01-01T00:00:00Z control connection refused",
                ])
            let status = try await Self.run(["status"], socket: socket).output
            #expect(
                status.hasSuffix("\n\nip-10.0.0.2-1-2: 1-2 of 10.0.0.2 isn't here now, waiting: connection refused\n"))
            let offers = try await Self.run(["import", "unix:/run/x"], socket: socket).output.split(separator: "\n")
            #expect(
                offers.map { $0.split(separator: " ").joined(separator: " ") } == [
                    "BUSID VID:PID SPEED CLASS KIND IMPORTED AS NAME",
                    "1-1 0525:a4a0 high 00 vendor's own ip-a.b -",
                    "1-2 0951:1666 super 08 mass storage ip-b, waiting: another has it DataTraveler",
                    "left out '../1', which can't be imported: it's wrong",
                ])
            let json = try await Self.run(["import", "[::1]:3241", "--json"], socket: socket).output
            #expect(
                try JSONDecoder().decode([OfferInfo].self, from: Data(json.utf8)).map(\.busid) == [
                    "1-1", "1-2", "../1",
                ])
            let silent = try await Self.run(["import", "silent"], socket: socket)
            #expect(silent.code == 4)
            let forget = ["forget", "ip-a.b", "--deadline", "500ms", "--cancel"]
            #expect(try await Self.run(forget, socket: socket).code == 0)
            #expect(await fixture.service.releases == [ReleaseRequest(deadlineSeconds: 0.5, onDeadline: .cancel)])
            #expect(await fixture.service.imports().map(\.id) == ["ip-10.0.0.2-1-2"])
            #expect(try await Self.run(["forget", "ip-a.b"], socket: socket).code == 1)
        }
    }

    @Test func jsonBeforeAndAfterTheCommandIsTheDaemonsAnswer() async throws {
        try await ServerFixture.with { fixture in
            let expected = try await fixture.client.devices()
            for arguments in [
                ["--json", "devices"], ["devices", "--json"], ["--socket", fixture.socketPath, "--json", "devices"],
                ["--socket=\(fixture.socketPath)", "devices", "--json"],
            ] {
                let run = try await Self.run(arguments, socket: fixture.socketPath)
                let devices = try JSONDecoder().decode([DeviceInfo].self, from: Data(run.output.utf8))
                #expect(devices == expected)
            }
        }
    }

    @Test func pathsOfSocketsAreMadeAbsolute() async throws {
        try await ServerFixture.with { fixture in
            let arguments = ["guest", "add", "vm1", "--connector", "qemu", "--qmp", "vm1/../qmp"]
            let run = try await Self.run(arguments, socket: fixture.socketPath)
            #expect(run.code == 0)
            let guest = try await fixture.client.guest("vm1")
            #expect(guest.qmp == FileManager.default.currentDirectoryPath + "/qmp")
        }
    }

    @Test func guestsShowHowTheyAreLoadedAndWhatTheirChannelDoes() async throws {
        try await ServerFixture.with { fixture in
            let socket = fixture.socketPath
            #expect(try await Self.run(["guest", "add", "holder", "--policy", "on-demand"], socket: socket).code == 0)
            let output = try await Self.run(["guests"], socket: socket).output
            let lines = output.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
            #expect(lines.first == "GUEST CONNECTOR MODE STATE LOADED AS MACHINE CHANNEL OWNER FILES HAS DECLARED BY")
            #expect(
                lines.last == "holder local auto, on-demand loaded, silent module - open, slow 0:0 0600 1-2.3 control")
        }
    }

    @Test func modulesShowWhatCannotBeUsedBelowTheTable() async throws {
        try await ServerFixture.with { fixture in
            let text = try await Self.run(["modules"], socket: fixture.socketPath).output
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            #expect(lines.count == 5)
            #expect(lines[1].hasPrefix("6.1.0-56-amd64  0.1 "))
            #expect(lines[3] == "/srv/modules/b: vusb_hcd.ko isn't a module")
            let json = try await Self.run(["modules", "--json"], socket: fixture.socketPath).output
            #expect(try JSONDecoder().decode([ModuleInfo].self, from: Data(json.utf8)) == FakeService.modules)
        }
    }

    @Test func percentagesInALogAreOneLineAQuarter() async throws {
        try await ServerFixture.with { fixture in
            await fixture.service.hold()
            #expect(try await Self.run(["guest", "add", "vm1"], socket: fixture.socketPath).code == 0)
            async let run = Self.run(["load", "vm1"], socket: fixture.socketPath)
            await fixture.service.untilWaiting(1)
            for percent in stride(from: 0, through: 100, by: 5) {
                await fixture.service.addStep("loading vusb_hcd: \(percent) % copied", to: 1)
            }
            for step in ["loading b: 60%", "loading b: 70%", "waiting for its hello"] {
                await fixture.service.addStep(step, to: 1)
            }
            await fixture.service.end(1, .succeeded)
            let steps = try await run.errors.split(separator: "\n").compactMap { $0.split(separator: " (").first }
            #expect(
                steps == [
                    "load vm1: begin", "load vm1: loading vusb_hcd: 0 % copied",
                    "load vm1: loading vusb_hcd: 25 % copied", "load vm1: loading vusb_hcd: 50 % copied",
                    "load vm1: loading vusb_hcd: 75 % copied", "load vm1: loading vusb_hcd: 100 % copied",
                    "load vm1: loading b: 60%", "load vm1: waiting for its hello",
                ])
        }
    }

    @Test func jsonOfStatusHasTheRowsOfTheText() async throws {
        try await ServerFixture.with { fixture in
            #expect(try await Self.run(["guest", "add", "holder"], socket: fixture.socketPath).code == 0)
            struct Rows: Decodable { var attached: [AttachmentInfo] }
            let answer = Data(try await Self.run(["status", "--json"], socket: fixture.socketPath).output.utf8)
            let status = try await fixture.client.status()
            #expect(try JSONDecoder().decode(DaemonStatus.self, from: answer).version == status.version)
            #expect(try JSONDecoder().decode(Rows.self, from: answer).attached == [FakeService.attachment])
        }
    }

    @Test func statusSaysWhyADeviceIsBusy() async throws {
        try await ServerFixture.with { fixture in
            #expect(try await Self.run(["guest", "add", "holder"], socket: fixture.socketPath).code == 0)
            let lines = try await Self.run(["status"], socket: fixture.socketPath).output.split(separator: "\n")
            #expect(lines.contains { $0.hasPrefix("GUEST") && $0.hasSuffix("BYTES OUT  BUSY") })
            #expect(lines.last?.hasSuffix("512       0          somebody holds it: backup") == true, "\(lines)")
        }
    }

    @Test func whatHasNoAnswerIsAnEmptyObjectAsJSON() async throws {
        try await ServerFixture.with { fixture in
            let socket = fixture.socketPath
            #expect(try await Self.run(["guest", "add", "demo"], socket: socket).code == 0)
            for arguments in [["type", "0001:0002", "hi"], ["unplug", "1-2.3"], ["guest", "rm", "demo"]] {
                let run = try await Self.run(arguments + ["--json"], socket: socket)
                let object = try JSONDecoder().decode([String: String].self, from: Data(run.output.utf8))
                #expect(object.isEmpty, "\(arguments)")
            }
        }
    }

    @Test func problemsEndWithTheCodeOfTheirKind() async throws {
        let codes: [(Problem.Code, Int32)] = [
            (.malformed, 2), (.conflict, 1), (.notFound, 1), (.failed, 1), (.unavailable, 1), (.denied, 3), (.busy, 4),
            (.timedOut, 4),
        ]
        try await ServerFixture.with { fixture in
            for (code, exit) in codes {
                await fixture.service.refuseAttach(Problem(code, "1-2.3 says no", remedy: "ask again"))
                let run = try await Self.run(["attach", "1-2.3", "a", "--json"], socket: fixture.socketPath)
                #expect(run.code == exit, "\(code)")
                #expect(run.errors == "vusbctl: 1-2.3 says no\nask again\n")
                let problem = try JSONDecoder().decode(Problem.self, from: Data(run.output.utf8))
                #expect(problem.code == code)
            }
        }
    }

    @Test func peerThatIsNotLetInEndsWith3() async throws {
        try await ServerFixture.with {
            $0.policy = PeerPolicy(users: [UInt32.max - 1], group: nil)
        } _: { fixture in
            let run = try await Self.run(["status"], socket: fixture.socketPath)
            #expect(run.code == 3)
        }
    }

    @Test func ambiguousDeviceEndsWithTheCandidates() async throws {
        try await ServerFixture.with { fixture in
            let run = try await Self.run(["unplug", "0525:a4a0"], socket: fixture.socketPath)
            #expect(run.code == 1)
            let told = "  1-2.3 (0525:a4a0:B/2, available)\n  emulated:zero-1 (0525:a4a0:A1, available)"
            #expect(run.errors.contains(told), "\(run.errors)")
        }
    }

    @Test func operationThatFailsAsBusyEndsWith4() async throws {
        try await ServerFixture.with { fixture in
            await fixture.service.hold()
            async let run = Self.run(["detach", "1-2.3"], socket: fixture.socketPath)
            await fixture.service.untilWaiting(1)
            await fixture.service.addStep("drain", to: 1)
            await fixture.service.untilWaiting(1)
            await fixture.service.end(1, .failed, Problem(.busy, "1-2.3 has 3 transfers in flight", remedy: "cancel"))
            let ended = try await run
            #expect(ended.code == 4)
            #expect(ended.errors.hasPrefix("detach 1-2.3: begin (0.0 ms)\ndetach 1-2.3: drain (1.0 ms)\n"))
        }
    }

    @Test func interruptCancelsTheOperationAndEndsWith130() async throws {
        try await ServerFixture.with { fixture in
            await fixture.service.hold()
            let (numbers, started) = AsyncStream<Int32>.makeStream()
            async let run = Self.run(["detach", "1-2.3"], socket: fixture.socketPath) { started.yield($0) }
            var iterator = numbers.makeAsyncIterator()
            let number = try #require(await iterator.next())
            await fixture.service.untilWaiting(1)
            kill(number, SIGINT)
            let ended = try await run
            #expect(ended.code == 130)
            #expect(await fixture.service.operations().map(\.state) == [.cancelled])
        }
    }

    @Test func watchPrintsALineForEachEvent() async throws {
        try await ServerFixture.with { fixture in
            await fixture.service.happen("attached", device: "1-2.3", detail: "bad\u{1b}[31m")
            async let run = Self.run(["watch", "--after", "0"], socket: fixture.socketPath)
            await fixture.service.untilListening(1)
            await fixture.service.endEvents()
            let ended = try await run
            #expect(ended.code == 1)
            #expect(ended.output == "2026-01-01T00:00:00.000Z 1 attached device=1-2.3 bad?[31m\n")
        }
    }
}
