// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBFileSystem
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// A guest's machine goes off, comes back, reboots (States.md, V1 to V3), and vusbd restarts (R1 to R3).
@Suite(.timeLimit(.minutes(1))) struct LifeCycleTests {
    /// V2, V3: the guest answers nothing, and the host's side is clean all the same, soon.
    @Test(arguments: [VMMEvent.Kind.off, .panicked])
    func aMachineThatEndsLosesItsDevicesAndGetsThemBackWhenItIsBack(kind: VMMEvent.Kind) async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        machine.change { $0.isSilent = true }
        bench.tree.answer("vm1", .never)
        try bench.write("1-1", of: "vm1")
        let began = ContinuousClock.now
        bench.turnOff(machine, kind)
        await bench.state("waiting", of: "vm1", after: 0)
        #expect(ContinuousClock.now - began < .seconds(2))
        #expect(await bench.handler.wait(for: 1).first?.status == .cancelled)
        #expect(try await bench.state("emu-a") == .available)
        #expect(bench.source.closedBackends.map(\.resets) == [1])
        #expect(bench.tree.journal.isEmpty)
        #expect(bench.tree.channels.isEmpty)
        #expect(bench.monitor.boundGuests == ["vm1"])
        #expect(try await bench.plane.guest("vm1").loadedMode == nil)
        machine.change { $0.isSilent = false }
        let before = await bench.lastSequence
        bench.start(machine)
        await bench.state("loaded", of: "vm1", after: before)
        #expect(try await bench.state("emu-a") == .attached)
        #expect(machine.journal == ["insmod", "insmod"])
        await bench.close()
    }

    /// V2: `reset` has no `started` after it.
    @Test func aGuestThatRebootsIsLoadedAgain() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        bench.tree.setChannel("vm1", .closed)
        machine.start()
        bench.monitor.tell(.reset, "vm1")
        let waiting = await bench.event("guest-state") { $0.detail == "waiting" }?.sequence ?? 0
        await bench.state("loaded", of: "vm1", after: waiting)
        #expect(try await bench.state("emu-a") == .attached)
        #expect(machine.journal == ["insmod", "insmod"])
        await bench.close()
    }

    /// V2: a monitor that was lost and found again, and a guest that noticed nothing.
    @Test func aModuleThatIsStillThereIsNotLoadedTwice() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        machine.pause()
        bench.monitor.tell(.off, "vm1")
        await bench.state("waiting", of: "vm1", after: 0)
        let before = await bench.lastSequence
        machine.resume()
        bench.monitor.tell(.started, "vm1")
        await bench.state("loaded", of: "vm1", after: before)
        #expect(machine.journal == ["insmod"])
        await bench.close()
    }

    /// V1
    @Test func aMachineThatEndsDuringItsLoadEndsTheLoad() async throws {
        let (bench, machine) = try await Bench.withMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        machine.change { $0.loadHangs = true }
        let operation = try await bench.plane.load("vm1", LoadRequest())
        _ = await machine.hangs.wait(for: 1)
        bench.turnOff(machine)
        let info = try await bench.finish(operation)
        #expect(info.error?.code == .unavailable)
        #expect(try await bench.state(of: "vm1") == .failed)
        #expect(bench.monitor.boundGuests.isEmpty)
        await bench.close()
    }

    /// V1: twice, and then it comes.
    @Test func aMachineThatEndsWhileItIsLoadedAgainIsWaitedForFurther() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: 0)
        machine.change { $0.loadHangs = true }
        bench.start(machine)
        _ = await machine.hangs.wait(for: 1)
        let before = await bench.lastSequence
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: before)
        machine.change { $0.loadHangs = false }
        bench.start(machine)
        await bench.state("loaded", of: "vm1", after: before)
        await bench.close()
    }

    /// V1: what the load that ended was doing in the guest hasn't ended with it.
    @Test func aLoadAfterAStartWaitsForWhatTheOneBeforeBegan() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine()
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: 0)
        machine.change { behaviour in
            behaviour.loadHangs = true
            behaviour.undoHangs = true
        }
        bench.start(machine)
        _ = await machine.hangs.wait(for: 1)
        let before = await bench.lastSequence
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: before)
        _ = await machine.hangs.wait(for: 2)
        machine.change { $0.loadHangs = false }
        bench.start(machine)
        await bench.state("loading", of: "vm1", after: await bench.lastSequence)
        let operation = try #require(await bench.plane.operationLog.running.first)
        let info = try await bench.plane.operation(operation, waitSeconds: 60, afterSteps: 2)
        #expect(info.steps.last?.name == "waiting for what was begun in the guest before")
        machine.letGo()
        _ = try await bench.finish(info)
        #expect(try await bench.state(of: "vm1") == .loaded)
        #expect(machine.journal == ["insmod", "undone", "insmod"])
        await bench.close()
    }

    /// V2: nobody who takes the guest down is told that it failed, and it isn't waited for.
    @Test func anUnloadThatMeetsTheEndOfTheMachineSucceeds() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        machine.change { $0.users = [[GuestUser(device: "3-1", text: "a mount")]] }
        let operation = try await bench.plane.unload("vm1", ReleaseRequest(deadlineSeconds: 3600))
        _ = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 1)
        bench.turnOff(machine)
        #expect(try await bench.finish(operation).state == .succeeded)
        #expect(try await bench.state(of: "vm1") == .unloaded)
        #expect(bench.monitor.boundGuests.isEmpty)
        await bench.close()
    }

    @Test func aGuestThatWaitsIsUnloadedAndRemovedLikeAnyOther() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: 0)
        let attach = await problem { _ = try await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")) }
        #expect(attach?.detail == "the machine of guest vm1 is off")
        let remove = await problem { try await bench.plane.removeGuest("vm1") }
        #expect(remove?.code == .conflict)
        #expect(try await bench.unload("vm1").state == .succeeded)
        #expect(bench.store.state.loaded.isEmpty)
        #expect(bench.monitor.boundGuests.isEmpty)
        try await bench.plane.removeGuest("vm1")
        await bench.close()
    }

    /// The load says why it can't be, and changes nothing.
    @Test func aLoadByHandLeavesAGuestWaitingWhileItsMachineIsOff() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a", "vm1")
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: 0)
        let saved = bench.store.state.loaded
        let info = try await bench.loadFails("vm1")
        #expect(info.error?.code == .unavailable)
        #expect(info.error?.remedy?.hasPrefix("start it") == true)
        #expect(info.steps.last?.name == "its machine is off: it's loaded again when that is back")
        #expect(try await bench.state(of: "vm1") == .waiting)
        #expect(bench.store.state.loaded == saved && saved.first?.held.count == 1)
        let before = await bench.lastSequence
        bench.start(machine)
        await bench.state("loaded", of: "vm1", after: before)
        #expect(try await bench.state("emu-a") == .attached)
        await bench.close()
    }

    @Test func aPausedMachineLosesNothing() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        bench.monitor.tell(.stopped, "vm1")
        bench.monitor.tell(.resumed, "vm1")
        #expect(await bench.event("guest-life") { $0.detail == "resumed" } != nil)
        #expect(try await bench.state("emu-a") == .attached)
        #expect(machine.journal == ["insmod"])
        await bench.close()
    }

    /// V2 with another guest's devices next to it.
    @Test func otherGuestsNoticeNothing() async throws {
        let machines = [TestMachine("vm1"), TestMachine("vm2")]
        let bench = try await Bench(machines: machines)
        for device in ["emu-a 0525:a4a0", "emu-b 0525:a4a1"] { _ = try await bench.plane.plugIn(device) }
        _ = try await bench.plane.addGuest(Bench.guest("vm1", ["emu-a"]))
        _ = try await bench.plane.addGuest(Bench.guest("vm2", ["emu-b"]))
        for name in ["vm1", "vm2"] { try await bench.load(name) }
        try bench.read("1-1", of: "vm2")
        bench.turnOff(machines[0])
        await bench.state("waiting", of: "vm1", after: 0)
        #expect(bench.handler.completions.isEmpty)
        #expect(try await bench.state(of: "vm2") == .loaded)
        await bench.close()
    }

    // MARK: - Restart

    private func restart(_ store: MemoryStore, _ machine: TestMachine, _ devices: [String]) async throws -> Bench {
        let bench = try await Bench(store: store, machines: [machine])
        for device in devices { _ = try await bench.plane.plugIn(device) }
        await bench.plane.restore(store.state, configured: [])
        return bench
    }

    /// R1, R3
    @Test func aStopTakesDevicesOrderlyAndLeavesTheModule() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        await bench.plane.stop(deadline: .seconds(5))
        #expect(bench.tree.journal == ["withdraw 1-1 orderly"])
        #expect(machine.journal == ["insmod"])
        #expect(bench.store.state.modules?.count == 1)
        await bench.close()
        let second = try await restart(bench.store, machine, ["emu-a 0525:a4a0"])
        #expect(try await second.state(of: "vm1") == .loaded)
        #expect(try await second.state("emu-a") == .attached)
        #expect(machine.journal == ["insmod"])
        await second.close()
    }

    /// R1: a guest that doesn't answer costs the deadline, and a second signal not even that.
    @Test func aStopIsNotHeldUpByAGuestThatIsSilent() async throws {
        let (bench, _) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        bench.tree.answer("vm1", .never)
        let stop = Task { await bench.plane.stop(deadline: .seconds(20)) }
        while bench.tree.journal.isEmpty { await Task.yield() }
        await bench.plane.hurry()
        await stop.value
        await bench.close()
    }

    /// R2, R3
    @Test func afterAKillTheModuleIsFoundAndNotLoadedTwice() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        let second = try await restart(bench.store, machine, ["emu-a 0525:a4a0"])
        #expect(try await second.state("emu-a") == .attached)
        #expect(machine.journal == ["insmod"])
        #expect(try await second.unload("vm1").state == .succeeded)
        #expect(machine.modules == nil)
        await second.close()
        await bench.close()
    }

    /// R2: L7 had written down that the module was loaded.
    @Test func afterAKillInTheMiddleOfALoadTheModuleIsFound() async throws {
        let (bench, machine) = try await Bench.withMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        bench.source.holdOpen(DeviceID("emu-a"))
        let operation = try await bench.plane.load("vm1", LoadRequest())
        _ = await bench.source.heldOpens.wait(for: 1)
        let second = try await restart(bench.store, machine, ["emu-a 0525:a4a0"])
        #expect(try await second.state(of: "vm1") == .unloaded)
        let info = try await second.load("vm1")
        #expect(info.steps.map(\.name).contains("module is loaded since before"))
        await second.close()
        bench.source.letOpen(DeviceID("emu-a"))
        _ = try await bench.finish(operation)
        await bench.close()
    }

    /// R3
    @Test func aMachineThatIsOffAtTheStartIsWaitedFor() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        let store = MemoryStore()
        await store.save(bench.store.state, revision: 1)
        machine.turnOff()
        let second = try await restart(store, machine, ["emu-a 0525:a4a0"])
        #expect(try await second.state(of: "vm1") == .waiting)
        #expect(store.state.loaded.count == 1)
        second.start(machine)
        await second.state("loaded", of: "vm1", after: 0)
        #expect(machine.journal == ["insmod", "insmod"])
        await second.close()
        await bench.close()
    }

    /// R3: its monitor accepts and says nothing, as while QEMU is stopped or the host under load.
    @Test func aMonitorThatIsSilentAtTheStartIsWaitedForAndNothingIsForgotten() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a", "vm1")
        let store = MemoryStore()
        await store.save(bench.store.state, revision: 1)
        machine.change { $0.monitorIsSilent = true }
        let second = try await restart(store, machine, ["emu-a 0525:a4a0"])
        #expect(try await second.state(of: "vm1") == .waiting)
        #expect(store.state.loaded == bench.store.state.loaded)
        #expect(store.state.modules == bench.store.state.modules)
        let finding = await second.plane.guestFindings().first
        #expect(finding?.level == .warning)
        #expect(finding?.summary == "waits for its machine: QEMU doesn't greet")
        #expect(finding?.remedy == "give it a socket of its own")
        machine.change { $0.monitorIsSilent = false }
        second.monitor.tell(.started, "vm1")
        await second.state("loaded", of: "vm1", after: 0)
        #expect(try await second.plane.guest("vm1").attachments.map(\.device) == ["emu-a"])
        #expect(machine.journal == ["insmod"])
        await second.close()
        await bench.close()
    }

    /// R3: what is wrong may be mended before the next start.
    @Test func aGuestThatCannotBeWatchedAtTheStartKeepsWhatItHad() async throws {
        let (bench, _) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a", "vm1")
        let store = MemoryStore()
        await store.save(bench.store.state, revision: 1)
        let second = try await Bench(store: store)
        await second.plane.restore(store.state, configured: [])
        #expect(try await second.plane.guest("vm1").reason == "load of guest vm1: no machine vm1")
        #expect(store.state.loaded == bench.store.state.loaded)
        #expect(try await second.unload("vm1").state == .succeeded)
        #expect(store.state.loaded.isEmpty)
        await second.close()
        await bench.close()
    }

    /// R3: the next start of its machine tries again.
    @Test func aLoadThatFailsAtTheStartIsTriedAgainWithTheMachine() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        machine.start()
        machine.change { $0.loadError = USBError(.invalid, "no build for this kernel") }
        let second = try await restart(bench.store, machine, ["emu-a 0525:a4a0"])
        #expect(try await second.state(of: "vm1") == .failed)
        #expect(try await second.plane.guest("vm1").reason == "load of guest vm1: no build for this kernel")
        machine.change { $0.loadError = nil }
        let before = await second.lastSequence
        second.start(machine)
        await second.state("loaded", of: "vm1", after: before)
        #expect(try await second.unload("vm1").state == .succeeded)
        await second.close()
        await bench.close()
    }
}
