// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBControl

@Suite struct ControlClientTests {
    @Test func everyCallComesBackTyped() async throws {
        try await ServerFixture.with { fixture in
            let client = fixture.client
            #expect(try await client.status().pid == 42)
            #expect(try await client.doctor() == [Finding(check: "fake", level: .ok, summary: "all is well")])
            #expect(try await client.devices().map(\.id).sorted() == ServerFixture.devices.map(\.id).sorted())
            let guest = try await client.addGuest(GuestSpec(name: "demo", fileMode: "0660", devices: ["1-2.3"]))
            #expect(guest.fileMode == "0660")
            #expect(try await client.guests() == [guest])
            #expect(try await client.guest("demo") == guest)
            let machine = GuestSpec(
                name: "vm1", connector: "qemu", mode: "module", qmp: "/run/vm1/qmp", agent: "/run/vm1/agent",
                share: "virtiofs:vusb", policy: "on-demand")
            let declared = try await client.addGuest(machine)
            #expect([declared.qmp, declared.agent, declared.share] == [machine.qmp, machine.agent, machine.share])
            #expect([declared.connector, declared.mode, declared.policy] == ["qemu", "module", "on-demand"])
            try await client.removeGuest("vm1")
            #expect(try await client.modules() == FakeService.modules)
            let load = try await client.load("demo", LoadRequest(mode: "files", process: 1))
            #expect(load.state == .succeeded)
            #expect(try await client.attach("1-2.3", AttachRequest(guest: "demo")).kind == "attach")
            #expect(try await client.detach("1-2.3", ReleaseRequest()).kind == "detach")
            #expect(try await client.unload("demo", ReleaseRequest()).kind == "unload")
            #expect(try await client.operations().map(\.id) == [1, 2, 3, 4])
            #expect(try await client.operation(1) == load)
            try await client.type(TypeRequest(text: "hi\n"), on: "0001:0002")
            #expect(await fixture.service.typed == ["hi\n"])
            let device = try await client.emulate(EmulateRequest(specification: "zero"))
            #expect(try await client.device(device.id) == device)
            try await client.unplug(device.id)
            try await client.removeGuest("demo")
            #expect(try await client.guests().isEmpty)
        }
    }

    @Test func namesWithSlashesAndColonsArriveAsTheyAre() async throws {
        try await ServerFixture.with { fixture in
            let device = try await fixture.client.device("0525:a4a0:B/2")
            #expect(device.id == "1-2.3")
            for name in ["a/b", "a?b", "a#b", "100%", "a b", "\u{e9}", "..", "+"] {
                let problem = await #expect(throws: Problem.self) {
                    _ = try await fixture.client.device(name)
                }
                #expect(problem?.detail == "no device '\(name)'")
            }
        }
    }

    @Test func problemOfTheDaemonIsThrownWhole() async throws {
        try await ServerFixture.with { fixture in
            let problem = await #expect(throws: Problem.self) {
                _ = try await fixture.client.device("0525:a4a0")
            }
            #expect(problem?.code == .ambiguous)
            #expect(problem?.candidates == ["1-2.3", "emulated:zero-1"])
        }
    }

    @Test func missingSocketSaysHowToStartTheDaemon() async throws {
        let path = try ServerFixture.temporaryDirectory() + "/none.sock"
        let client = ControlClient(socketPath: path)
        let error = await #expect(throws: ClientError.self) { _ = try await client.status() }
        #expect(error?.code == .notRunning)
        #expect(error?.description.hasPrefix("vusbd isn't running at \(path): start it with ") == true)
        await client.close()
    }

    @Test func fileThatIsNoSocketIsNamed() async throws {
        let path = try ServerFixture.temporaryDirectory() + "/file"
        try "".write(toFile: path, atomically: true, encoding: .utf8)
        let client = ControlClient(socketPath: path)
        let error = await #expect(throws: ClientError.self) { _ = try await client.status() }
        #expect(error?.description.contains("isn't a socket") == true)
        await client.close()
    }

    @Test func eventsArriveUntilTheBodyThrows() async throws {
        struct Enough: Error {}
        try await ServerFixture.with { fixture in
            await fixture.service.happen("one")
            await fixture.service.happen("two", detail: "d\u{e9}tail\n")
            var seen: [EventInfo] = []
            do {
                try await fixture.client.events(after: 0) { event in
                    seen.append(event)
                    if seen.count == 2 { throw Enough() }
                }
                Issue.record("the stream ended by itself")
            } catch let error as ClientError {
                #expect(error.cause is Enough)
            } catch is Enough {}
            #expect(seen.map(\.type) == ["one", "two"])
            #expect(seen.last?.detail == "d\u{e9}tail\n")
        }
    }

    @Test func eventsEndWhenTheDaemonEndsThem() async throws {
        try await ServerFixture.with { fixture in
            async let listening: Void = fixture.client.events { _ in }
            await fixture.service.untilListening(1)
            await fixture.service.endEvents()
            try await listening
        }
    }
}
