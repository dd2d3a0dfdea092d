// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// `policy: on-demand` (States.md, D1 to D5).
@Suite(.timeLimit(.minutes(1))) struct OnDemandTests {
    private func bench(_ devices: [String] = [], lists: [String] = [], idle: Duration = .zero) async throws
        -> (bench: Bench, machine: TestMachine)
    {
        var times = Bench.times
        times.idle = idle
        return try await Bench.withMachine(devices, lists: lists, policy: "on-demand", times: times)
    }

    /// D1, D3
    @Test func anAttachLoadsTheGuestAndItsLastDetachUnloadsIt() async throws {
        let (bench, machine) = try await bench(["emu-a 0525:a4a0"])
        #expect(machine.journal.isEmpty)
        let info = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")))
        #expect(info.kind == "attach")
        #expect(info.attachment?.path == "1-1")
        #expect(
            info.steps.map(\.name) == [
                "bound", "published in mode module", "channel is there", "mounting /vusb", "loading for /vusb/hcd",
                "hello from 'test 1'", "opening emu-a", "attached emu-a as 1-1",
            ])
        let before = await bench.lastSequence
        #expect(try await bench.detach("emu-a").state == .succeeded)
        await bench.state("unloaded", of: "vm1", after: before)
        #expect(machine.journal == ["insmod", "rmmod"])
        await bench.close()
    }

    /// D2, D3
    @Test func aDeviceThatComesLoadsTheGuestAndItsUnplugUnloadsIt() async throws {
        let (bench, machine) = try await bench(lists: ["0525:a4a0"])
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        await bench.state("loaded", of: "vm1", after: 0)
        #expect(try await bench.state("emu-a") == .attached)
        try bench.source.pullOut(DeviceID("emu-a"))
        await bench.state("unloaded", of: "vm1", after: 0)
        #expect(machine.journal == ["insmod", "rmmod"])
        await bench.close()
    }

    /// D2
    @Test func aDeviceThatIsThereWhenItIsDeclaredLoadsTheGuest() async throws {
        let (bench, _) = try await bench(["emu-a 0525:a4a0", "emu-b 0525:a4a0"], lists: ["0525:a4a0"])
        await bench.state("loaded", of: "vm1", after: 0)
        #expect(try await bench.plane.guest("vm1").attachments.count == 2)
        await bench.close()
    }

    /// D2
    @Test func aDeviceThatALoadedGuestHasAClaimOnLoadsNobody() async throws {
        let (bench, machine) = try await bench(lists: ["0525:a4a0"])
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", devices: ["0525:a4a0"]))
        try await bench.load("web1")
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        #expect(await bench.event("attached")?.guest == "web1")
        #expect(machine.journal.isEmpty)
        await bench.close()
    }

    /// D3
    @Test func aReplugInTimeCostsNoLoad() async throws {
        let (bench, machine) = try await bench(["emu-a 0525:a4a0"], lists: ["0525:a4a0"], idle: .seconds(3600))
        await bench.state("loaded", of: "vm1", after: 0)
        let before = await bench.lastSequence
        try bench.source.pullOut(DeviceID("emu-a"))
        _ = await bench.event("detached", after: before)
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        #expect(await bench.event("attached", after: before) != nil)
        #expect(machine.journal == ["insmod"])
        await bench.close()
    }

    /// D4, D5
    @Test func byHandItIsLoadedAndUnloadedLikeAnyOther() async throws {
        let (bench, machine) = try await bench(["emu-a 0525:a4a0"], lists: ["0525:a4a0"])
        await bench.state("loaded", of: "vm1", after: 0)
        #expect(try await bench.unload("vm1").state == .succeeded)
        #expect(try await bench.state("emu-a") == .available)
        #expect(try await bench.state(of: "vm1") == .unloaded)
        try bench.source.pullOut(DeviceID("emu-a"))
        try await bench.load("vm1")
        #expect(try await bench.state(of: "vm1") == .loaded)
        #expect(machine.journal == ["insmod", "rmmod", "insmod"])
        await bench.close()
    }

    /// D1: nobody who attaches can know that the guest is just being unloaded.
    @Test func anAttachWhileItIsUnloadedWaitsAndLoadsItAgain() async throws {
        let (bench, machine) = try await bench(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a", "vm1")
        machine.change { $0.unloadHangs = true }
        #expect(try await bench.detach("emu-a").state == .succeeded)
        _ = await machine.hangs.wait(for: 1)
        let operation = try await bench.plane.attach("emu-a", AttachRequest(guest: "vm1"))
        _ = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 0)
        machine.letGo()
        let info = try await bench.finish(operation)
        #expect(info.attachment?.path == "1-1", "\(info)")
        #expect(info.steps.first?.name.hasPrefix("waiting for operation") == true)
        #expect(machine.journal == ["insmod", "rmmod", "insmod"])
        await bench.close()
    }

    /// D2: the same for one that comes by itself.
    @Test func aDeviceThatComesWhileItIsUnloadedLoadsItAgain() async throws {
        let (bench, machine) = try await bench(["emu-a 0525:a4a0"], lists: ["0525:a4a0"])
        await bench.state("loaded", of: "vm1", after: 0)
        machine.change { $0.unloadHangs = true }
        try bench.source.pullOut(DeviceID("emu-a"))
        _ = await machine.hangs.wait(for: 1)
        let before = await bench.lastSequence
        _ = try await bench.plane.plugIn("emu-b 0525:a4a0")
        machine.letGo()
        await bench.state("loaded", of: "vm1", after: before)
        #expect(try await bench.state("emu-b") == .attached)
        await bench.close()
    }

    /// D1: two at once are one load.
    @Test func aSecondAttachWaitsForTheFirstOnesLoad() async throws {
        let (bench, machine) = try await bench(["emu-a 0525:a4a0", "emu-b 0525:a4a1"])
        let first = try await bench.plane.attach("emu-a", AttachRequest(guest: "vm1"))
        let second = try await bench.plane.attach("emu-b", AttachRequest(guest: "vm1"))
        #expect(try await bench.finish(first).state == .succeeded)
        #expect(try await bench.finish(second).attachment?.path == "1-2")
        #expect(machine.journal == ["insmod"])
        await bench.close()
    }

    /// D1, and L6 that fails
    @Test func anAttachWhoseLoadFailsLeavesTheDeviceFree() async throws {
        let (bench, machine) = try await bench(["emu-a 0525:a4a0"])
        machine.change { $0.loadError = USBError(.invalid, "no build") }
        let info = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")))
        #expect(info.error?.detail == "load of guest vm1: no build")
        #expect(try await bench.state("emu-a") == .available)
        #expect(try await bench.state(of: "vm1") == .failed)
        machine.change { $0.loadError = nil }
        #expect(try await bench.attach("emu-a", "vm1").path == "1-1")
        await bench.close()
    }

    /// D1, and L8 that fails: without its device there is nothing to be loaded for.
    @Test func anAttachWhoseDeviceCannotBeOpenedLoadsNothingInTheEnd() async throws {
        let (bench, machine) = try await bench(["emu-a 0525:a4a0"])
        bench.source.fail(DeviceID("emu-a"), with: USBError(.busy, "the host has it"))
        let info = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")))
        #expect(info.error?.detail == "attach of device emu-a to guest vm1: the host has it")
        #expect(machine.journal == ["insmod", "rmmod"])
        #expect(try await bench.state("emu-a") == .available)
        await bench.close()
    }

    /// D2, and L2 that fails: it's loaded when its machine is there.
    @Test func aDeviceForAMachineThatIsOffIsGivenWhenItIsBack() async throws {
        let (bench, machine) = try await bench(lists: ["0525:a4a0"])
        machine.turnOff()
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        await bench.state("waiting", of: "vm1", after: 0)
        #expect(try await bench.state("emu-a") == .available)
        bench.start(machine)
        await bench.state("loaded", of: "vm1", after: 0)
        #expect(try await bench.state("emu-a") == .attached)
        await bench.close()
    }

    /// R3 and D3: what it was loaded for has gone meanwhile.
    @Test func afterARestartWithoutItsDeviceItIsUnloaded() async throws {
        let (first, machine) = try await bench(["emu-a 0525:a4a0"], lists: ["0525:a4a0"])
        await first.state("loaded", of: "vm1", after: 0)
        let store = MemoryStore()
        await store.save(first.store.state, revision: 1)
        let second = try await Bench(store: store, machines: [machine])
        await second.plane.restore(store.state, configured: [])
        await second.state("unloaded", of: "vm1", after: 0)
        #expect(machine.modules == nil)
        await second.close()
        await first.close()
    }
}
