// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBFileSystem
import VUSBTestSupport

@testable import VUSBDaemon

@Suite(.timeLimit(.minutes(1))) struct AttachTests {
    @Test func aFreeDeviceIsTheGuestsUnderItsFirstNumbers() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0 S1"])
        let attachment = try await bench.attach("0525:A4A0:S1")
        #expect(attachment.path == "1-1")
        #expect([attachment.busNumber, attachment.deviceNumber, attachment.major, attachment.minor] == [1, 2, 512, 1])
        #expect(try await bench.state("emu-a") == .attached)
        #expect(bench.tree.hosts[DeviceID("emu-a")] == RecordingTree.Host(state: "attached", guest: "web1"))
        #expect(try await bench.plane.guest("web1").attachments.map(\.device) == ["emu-a"])
        await bench.close()
    }

    @Test func aDeviceOfAnotherGuestIsRefusedWithItsNameAndRemedy() async throws {
        let bench = try await Bench.loaded(
            ["emu-a 0525:a4a0"], guests: [GuestSpec(name: "web1"), GuestSpec(name: "web2")])
        try await bench.attach("emu-a")
        let problem = await problem { _ = try await bench.plane.attach("emu-a", AttachRequest(guest: "web2")) }
        #expect(problem?.code == .busy)
        #expect(problem?.detail == "device emu-a is held by guest web1")
        #expect(problem?.remedy?.contains("vusbctl switch") == true)
        await bench.close()
    }

    @Test func aGuestWithAModuleGetsNoMoreDevicesThanItHasPorts() async throws {
        let (bench, _) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0", "emu-b 0525:a4a0"], lists: ["emu-a"])
        bench.tree.setChannel("vm1", .closed)
        bench.tree.setChannel("vm1", .open, ports: 1)
        let info = try await bench.finish(await bench.plane.attach("emu-b", AttachRequest(guest: "vm1")))
        #expect(info.error?.code == .unavailable)
        #expect(
            info.error?.detail == "guest vm1 has no free port for emu-b: all 1 of its USB 2 root hub are taken")
        #expect(try await bench.state("emu-b") == .available)
        await bench.close()
    }

    @Test func aGuestThatIsNotLoadedGetsNothing() async throws {
        let bench = try await Bench()
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        let notLoaded = await problem { _ = try await bench.plane.attach("emu-a", AttachRequest(guest: "web1")) }
        #expect(notLoaded?.code == .conflict)
        let unknown = await problem { _ = try await bench.plane.attach("emu-a", AttachRequest(guest: "nobody")) }
        #expect(unknown?.code == .notFound)
        #expect(try await bench.state("emu-a") == .available)
        await bench.close()
    }

    @Test func aDeviceThatTheHostDoesNotGiveUpIsAvailableAgain() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        bench.source.fail(DeviceID("emu-a"), with: USBError(.busy, "usb-storage holds sda", remedy: "umount /dev/sda1"))
        let info = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "web1")))
        #expect(info.state == .failed)
        #expect(info.error?.code == .busy)
        #expect(info.error?.detail == "attach of device emu-a to guest web1: usb-storage holds sda")
        #expect(info.error?.remedy == "umount /dev/sda1")
        #expect(try await bench.state("emu-a") == .available)
        bench.source.fail(DeviceID("emu-a"), with: nil)
        #expect(try await bench.attach("emu-a").path == "1-1")
        await bench.close()
    }

    @Test func aRefusedDeviceIsListedAndCannotBeAttached() async throws {
        let bench = try await Bench.loaded([])
        bench.source.refuse(DeviceID("1-2"), reason: "descriptor at byte 9: bLength 0")
        _ = await bench.event("device-refused")
        #expect(try await bench.plane.device("1-2").reason == "descriptor at byte 9: bLength 0")
        let problem = await problem { _ = try await bench.plane.attach("1-2", AttachRequest(guest: "web1")) }
        #expect(problem?.code == .conflict)
        #expect(problem?.detail.contains("bLength 0") == true)
        #expect(await bench.plane.doctor().contains { $0.check == "device 1-2" && $0.level == .warning })
        await bench.close()
    }

    @Test func anUnplugDuringTheOpenFailsTheAttachAndLeavesNothing() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        bench.source.holdOpen(DeviceID("emu-a"))
        let operation = try await bench.plane.attach("emu-a", AttachRequest(guest: "web1"))
        _ = await bench.source.heldOpens.wait(for: 1)
        try await bench.plane.unplug("emu-a")
        let gone = await problem { _ = try await bench.plane.device("emu-a") }
        #expect(gone?.code == .notFound)
        bench.source.letOpen(DeviceID("emu-a"))
        let info = try await bench.finish(operation)
        #expect(info.error?.code == .notFound)
        #expect(await bench.plane.devices().isEmpty)
        await bench.close()
    }

    @Test func aReplugDuringTheOpenIsANewDevice() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        bench.source.holdOpen(DeviceID("emu-a"))
        let operation = try await bench.plane.attach("emu-a", AttachRequest(guest: "web1"))
        _ = await bench.source.heldOpens.wait(for: 1)
        try await bench.plane.unplug("emu-a")
        async let plugged = bench.plane.plugIn("emu-a 0525:a4a1")
        bench.source.letOpen(DeviceID("emu-a"))
        let info = try await bench.finish(operation)
        #expect(info.error?.code == .notFound)
        #expect(try await plugged == DeviceID("emu-a"))
        #expect(try await bench.plane.device("emu-a").idProduct == "a4a1")
        #expect(try await bench.state("emu-a") == .available)
        await bench.close()
    }

    @Test func aCancelledAttachLeavesTheDeviceAvailable() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        bench.source.holdOpen(DeviceID("emu-a"))
        let operation = try await bench.plane.attach("emu-a", AttachRequest(guest: "web1"))
        _ = await bench.source.heldOpens.wait(for: 1)
        let twice = await problem { _ = try await bench.plane.attach("emu-a", AttachRequest(guest: "web1")) }
        #expect(twice?.detail == "device emu-a is being attached to guest web1 by operation \(operation.id)")
        _ = try await bench.plane.cancelOperation(operation.id)
        bench.source.letOpen(DeviceID("emu-a"))
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(try await bench.state("emu-a") == .available)
        #expect(bench.source.openDevices.isEmpty)
        let ended = await problem { _ = try await bench.plane.cancelOperation(operation.id) }
        #expect(ended?.code == .conflict)
        await bench.close()
    }

    @Test func namesThatFitSeveralDevicesAreRefusedWithTheCandidates() async throws {
        let bench = try await Bench.loaded(["emu-b 0525:a4a0 A:B", "emu-a 0525:a4a0", "emu-c 0525:a4a1"])
        let ambiguous = await problem { _ = try await bench.plane.device("0525:a4a0") }
        #expect(ambiguous?.code == .ambiguous)
        #expect(ambiguous?.candidates == ["emu-a", "emu-b"])
        #expect(try await bench.plane.device("0525:A4A0:A:B").id == "emu-b")
        #expect(try await bench.plane.device("0525:a4a1").id == "emu-c")
        for name in ["", "0525:a4a2", "525:a4a1", "0525:a4a0:", "emu-a/..", "x\0y", String(repeating: "a", count: 300)]
        {
            let missing = await problem { _ = try await bench.plane.device(name) }
            #expect(missing?.code == .notFound, "\(name.debugDescription)")
        }
        await bench.close()
    }

    @Test func devicesBeyond126GetTheNextBus() async throws {
        let bench = try await Bench.loaded([])
        for number in 0..<130 {
            _ = try await bench.plane.plugIn("emu-\(number) 0525:a4a0 S\(number)")
            try await bench.attach("emu-\(number)")
        }
        let attachments = try await bench.plane.guest("web1").attachments
        #expect(attachments.map(\.path).suffix(4) == ["2-1", "2-2", "2-3", "2-4"])
        #expect(Set(attachments.map(\.minor)).count == 130)
        #expect(attachments.last?.minor == 128 + 4)
        await bench.close()
    }
}
