// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

@Suite(.timeLimit(.minutes(1))) struct LoadTests {
    @Test func listedDevicesAreNumberedInTheOrderOfTheList() async throws {
        let bench = try await Bench.loaded(
            ["emu-a 0525:a4a0", "emu-b 0525:a4a1", "emu-c 0525:a4a2"],
            guests: [GuestSpec(name: "web1", devices: ["emu-c", "0525:a4a1", "emu-a"])])
        #expect(try await bench.plane.guest("web1").attachments.map(\.path) == ["1-1", "1-2", "1-3"])
        #expect(try await bench.plane.guest("web1").attachments.map(\.device) == ["emu-c", "emu-b", "emu-a"])
        await bench.close()
    }

    @Test func aLoadAttachesWhatIsThereAndFree() async throws {
        let bench = try await Bench()
        for device in ["emu-a 0525:a4a0", "emu-b 0525:a4a1", "emu-c 0525:a4a2"] {
            _ = try await bench.plane.plugIn(device)
        }
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", devices: ["emu-a"]))
        _ = try await bench.plane.addGuest(GuestSpec(name: "web2", devices: ["emu-a", "0525:a4a1", "emu-absent"]))
        try await bench.load("web1")
        let info = try await bench.load("web2")
        #expect(info.steps.map(\.name).contains("emu-a not attached: device emu-a is held by guest web1"))
        #expect(try await bench.plane.guest("web2").attachments.map(\.device) == ["emu-b"])
        #expect(bench.tree.guests["web2"]?.state == "loaded")
        #expect(bench.tree.guests["web2"]?.isPublished == true)
        await bench.close()
    }

    @Test func aDeviceThatComesLaterIsAttached() async throws {
        let bench = try await Bench.loaded([], guests: [GuestSpec(name: "web1", devices: ["0525:a4a0"])])
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        #expect(await bench.event("attached")?.device == "emu-a")
        await bench.close()
    }

    @Test func aDeviceThatComesDuringTheLoadIsAttached() async throws {
        let bench = try await Bench()
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", devices: ["0525:a4a0"]))
        bench.source.holdOpen(DeviceID("emu-a"))
        let operation = try await bench.plane.load("web1", LoadRequest())
        _ = await bench.source.heldOpens.wait(for: 1)
        _ = try await bench.plane.plugIn("emu-b 0525:a4a0")
        bench.source.letOpen(DeviceID("emu-a"))
        _ = try await bench.finish(operation)
        #expect(await bench.event("attached") { $0.device == "emu-b" } != nil)
        #expect(try await bench.plane.guest("web1").attachments.count == 2)
        await bench.close()
    }

    @Test func aGuestDoesNotReadWhyTheHostCouldNotLoadIt() async throws {
        let bench = try await Bench()
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        await bench.plane.setState(.failed(reason: "process 4711 has ended"), of: "web1")
        let shown = try #require(bench.tree.guests["web1"])
        #expect(shown.state == "failed: the host couldn't load it")
        #expect(shown.lines.last?.contains("failed: ") == true)
        #expect(!shown.lines.contains { $0.contains("4711") })
        #expect(try await bench.plane.guest("web1").reason == "process 4711 has ended")
        #expect(await bench.event("guest-state")?.detail == "failed: process 4711 has ended")
        await bench.close()
    }

    @Test func aDeviceThatCannotBeOpenedDoesNotKeepTheGuestDown() async throws {
        let bench = try await Bench()
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        bench.source.fail(DeviceID("emu-a"), with: USBError(.accessDenied, "no access"))
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", devices: ["emu-a"]))
        let info = try await bench.load("web1")
        #expect(info.steps.last?.name.hasPrefix("emu-a not attached") == true)
        #expect(await bench.event("attach-failed")?.device == "emu-a")
        #expect(try await bench.state("emu-a") == .available)
        #expect(await bench.plane.doctor().contains { $0.check == "device emu-a" && $0.level == .warning })
        await bench.close()
    }

    @Test func loadsAndUnloadsInTheWrongStateAreConflicts() async throws {
        let bench = try await Bench.loaded([])
        let unknown = await problem { _ = try await bench.plane.load("nobody", LoadRequest()) }
        #expect(unknown?.code == .notFound)
        let twice = await problem { _ = try await bench.plane.load("web1", LoadRequest()) }
        #expect(twice?.detail == "guest web1 is loaded already")
        let removed = await problem { try await bench.plane.removeGuest("web1") }
        #expect(removed?.code == .conflict)
        #expect(removed?.remedy == "unload it first: vusbctl unload web1")
        #expect(try await bench.unload("web1").state == .succeeded)
        let unloadedTwice = await problem { _ = try await bench.plane.unload("web1", ReleaseRequest()) }
        #expect(unloadedTwice?.code == .conflict)
        #expect(unloadedTwice?.detail == "guest web1 isn't loaded")
        try await bench.plane.removeGuest("web1")
        #expect(bench.tree.guests.isEmpty)
        await bench.close()
    }

    @Test func anUnloadWithABlockedReaderIsRefusedAndNothingHasChanged() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0", "emu-b 0525:a4a1"])
        try await bench.attach("emu-a")
        try await bench.attach("emu-b")
        try bench.read("1-2")
        let info = try await bench.unload("web1")
        #expect(info.error?.code == .busy)
        #expect(info.error?.detail.hasPrefix("device emu-b of guest web1 has 1 URB in flight") == true)
        #expect(try await bench.state(of: "web1") == .loaded)
        for path in ["1-1", "1-2"] {
            #expect(bench.tree.guests["web1"]?.attachments[path]?.device.admission == .admitting)
        }
        #expect(try await bench.unload("web1", .cancel).state == .succeeded)
        #expect(await bench.handler.wait(for: 1).first?.status == .cancelled)
        #expect(bench.store.state.loaded.isEmpty)
        await bench.close()
    }

    @Test func anUnloadIsRefusedWhileADeviceIsBeingAttached() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        bench.source.holdOpen(DeviceID("emu-a"))
        let operation = try await bench.plane.attach("emu-a", AttachRequest(guest: "web1"))
        _ = await bench.source.heldOpens.wait(for: 1)
        let refused = await problem { _ = try await bench.plane.unload("web1", ReleaseRequest()) }
        #expect(refused?.detail == "device emu-a is being attached to guest web1 by operation \(operation.id)")
        bench.source.letOpen(DeviceID("emu-a"))
        _ = try await bench.finish(operation)
        await bench.close()
    }

    @Test func aCancelledLoadLeavesNothing() async throws {
        let bench = try await Bench()
        for device in ["emu-a 0525:a4a0", "emu-b 0525:a4a1"] { _ = try await bench.plane.plugIn(device) }
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", devices: ["emu-a", "emu-b"]))
        bench.source.holdOpen(DeviceID("emu-b"))
        let operation = try await bench.plane.load("web1", LoadRequest())
        _ = await bench.source.heldOpens.wait(for: 1)
        _ = try await bench.plane.cancelOperation(operation.id)
        bench.source.letOpen(DeviceID("emu-b"))
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(try await bench.state(of: "web1") == .unloaded)
        #expect(bench.tree.guests["web1"]?.isPublished == false)
        #expect(await bench.plane.devices().map(\.state) == [.available, .available])
        try await bench.load("web1")
        await bench.close()
    }

    /// Loaded as it, or made it afterwards.
    @Test(arguments: [false, true])
    func theEndOfItsProcessUnloadsTheGuestWhateverIsInFlight(_ isAdopted: Bool) async throws {
        let bench = try await Bench()
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", devices: ["emu-a"]))
        let cat = Process()
        cat.executableURL = URL(fileURLWithPath: "/bin/cat")
        cat.standardInput = Pipe()
        try cat.run()
        if isAdopted { try await bench.load("web1") }
        try await bench.load("web1", process: Int(cat.processIdentifier))
        try bench.read("1-1")
        kill(cat.processIdentifier, SIGKILL)
        #expect(await bench.event("guest-state") { $0.detail == "unloaded" } != nil)
        #expect(try await bench.state("emu-a") == .available)
        #expect(await bench.handler.wait(for: 1).first?.status == .cancelled)
        await bench.close()
    }

    @Test func aProcessThatIsNotThereIsAConflict() async throws {
        let bench = try await Bench()
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        let missing = await problem { _ = try await bench.plane.load("web1", LoadRequest(process: Int(Int32.max))) }
        #expect(missing?.code == .conflict)
        let mode = await problem { _ = try await bench.plane.load("web1", LoadRequest(mode: "teleport")) }
        #expect(mode?.code == .malformed)
        #expect(try await bench.state(of: "web1") == .unloaded)
        await bench.close()
    }

    @Test func theGuestReadsOnlyOfItselfAndUnderItsOwnNames() async throws {
        let bench = try await Bench.loaded(
            ["emu-a 0525:a4a0", "emu-b 0525:a4a1"], guests: [GuestSpec(name: "web1"), GuestSpec(name: "web2")])
        try await bench.attach("emu-a", "web1")
        try await bench.attach("emu-b", "web2")
        let lines = try #require(bench.tree.guests["web1"]?.lines)
        let events = try lines.map { try JSONDecoder().decode(EventInfo.self, from: Data($0.utf8)) }
        #expect(events.map(\.type) == ["guest-state", "guest-state", "attached"])
        #expect(events.last?.path == "1-1")
        for line in lines { #expect(!line.contains("emu-") && !line.contains("web2") && !line.contains("\n")) }
        await bench.close()
    }
}
