// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore

@testable import VUSBDaemon

@Suite(.timeLimit(.minutes(1))) struct GuestTests {
    @Test(arguments: [
        "", "-a", "A", "a/b", "..", "a\0b", "a_b", "\u{e4}", String(repeating: "a", count: 64),
        String(repeating: "a", count: 300),
    ])
    func aNameAgainstTheRuleIsRefusedWithTheRule(name: String) async throws {
        let bench = try await Bench()
        let problem = await problem { _ = try await bench.plane.addGuest(GuestSpec(name: name)) }
        #expect(problem?.code == .malformed)
        #expect(problem?.remedy?.contains("[a-z0-9][a-z0-9-]{0,62}") == true)
        #expect((problem?.detail.utf8.count ?? .max) < 200)
        #expect(problem?.detail.utf8.contains(0) == false)
        await bench.close()
    }

    @Test(arguments: ["a", "0", "a-", "web1", String(repeating: "a", count: 63)])
    func aNameByTheRuleIsTaken(name: String) async throws {
        let bench = try await Bench()
        #expect(try await bench.plane.addGuest(GuestSpec(name: name)).name == name)
        let twice = await problem { _ = try await bench.plane.addGuest(GuestSpec(name: name)) }
        #expect(twice?.code == .conflict)
        #expect(bench.store.state.guests.map(\.name) == [name])
        await bench.close()
    }

    @Test func fieldsAreTakenByNameOrNumber() async throws {
        let bench = try await Bench()
        let info = try await bench.plane.addGuest(
            GuestSpec(
                name: "web1", mode: "files", owner: "1234", group: "root", fileMode: "0640", devices: ["1-2", "1-2"]))
        #expect(info.owner == 1234)
        #expect(info.group == 0)
        #expect(info.fileMode == "0640")
        #expect(info.devices == ["1-2"])
        #expect(info.declaredBy == "control")
        await bench.close()
    }

    @Test(arguments: [
        GuestSpec(name: "web1", connector: "qemu"), GuestSpec(name: "web1", mode: "redirect"),
        GuestSpec(name: "web1", owner: "no-such-user"), GuestSpec(name: "web1", owner: "4294967295"),
        GuestSpec(name: "web1", group: "no-such-group"), GuestSpec(name: "web1", group: ""),
        GuestSpec(name: "web1", fileMode: "0888"), GuestSpec(name: "web1", fileMode: "4755"),
        GuestSpec(name: "web1", fileMode: "66"), GuestSpec(name: "web1", devices: ["a/b"]),
        GuestSpec(name: "web1", devices: Array(repeating: "1-2", count: 65)),
    ])
    func aWrongFieldIsMalformedAndNamesTheGuest(specification: GuestSpec) async throws {
        let bench = try await Bench()
        let problem = await problem { _ = try await bench.plane.addGuest(specification) }
        #expect(problem?.code == .malformed)
        #expect(problem?.detail.contains("guest web1") == true)
        #expect(problem?.remedy != nil)
        #expect(await bench.plane.guests().isEmpty)
        await bench.close()
    }

    @Test func aGuestOfTheConfigurationCannotBeRemoved() async throws {
        let bench = try await Bench()
        await bench.plane.restore(SavedState(), configured: [ConfiguredGuest(specification: GuestSpec(name: "web1"))])
        let problem = await problem { try await bench.plane.removeGuest("web1") }
        #expect(problem?.code == .conflict)
        #expect(problem?.remedy?.contains("vusb.yaml") == true)
        let unknown = await VUSBDaemonTests.problem { try await bench.plane.removeGuest("web2") }
        #expect(unknown?.code == .notFound)
        #expect(bench.store.state.guests.isEmpty)
        await bench.close()
    }
}

@Suite(.timeLimit(.minutes(1))) struct GuestNumbersTests {
    private func identity(_ id: String, _ serial: String?) -> DeviceIdentity {
        DeviceIdentity(TestSource.record(id, 1, 2, serial: serial))
    }

    @Test func aDeviceThatComesBackGetsItsOldSlotIfItIsFree() {
        var numbers = GuestNumbers()
        let first = numbers.allot(for: identity("1-1", "A"))
        let second = numbers.allot(for: identity("1-2", "B"))
        #expect([first?.path, second?.path] == ["1-1", "1-2"])
        if let first { numbers.free(first) }
        #expect(numbers.allot(for: identity("1-3", "C"))?.path == "1-3")
        #expect(numbers.allot(for: identity("9-9", "A"))?.path == "1-1")
    }

    @Test func aFullGuestGetsNoMore() {
        var numbers = GuestNumbers()
        #expect(GuestSlot(index: GuestSlot.count) == nil)
        #expect(GuestSlot(index: -1) == nil)
        #expect(GuestSlot(busNumber: 2, port: 1)?.index == 126)
        #expect(GuestSlot(busNumber: 0, port: 1) == nil)
        #expect(GuestSlot(busNumber: 1, port: 127) == nil)
        for number in 0..<600 { _ = numbers.allot(for: identity("1-\(number)", nil)) }
        #expect(numbers.memories.count == GuestNumbers.memoryLimit)
        #expect(Set(numbers.memories.map(\.slot)).count == GuestNumbers.memoryLimit)
    }
}
