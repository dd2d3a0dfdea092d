// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBFileSystem
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// The steps of a load in mode `module` (States.md, L1 to L9), and what each leaves behind where it fails.
@Suite(.timeLimit(.minutes(1))) struct ModuleLoadTests {
    @Test func stepsAreTakenInOrderAndTold() async throws {
        let (bench, machine) = try await Bench.withMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        let info = try await bench.load("vm1")
        #expect(
            info.steps.map(\.name) == [
                "bound", "published in mode module", "channel is there", "mounting /vusb", "loading for /vusb/hcd",
                "hello from 'test 1'", "opening emu-a", "attached emu-a as 1-1",
            ])
        let guest = try await bench.plane.guest("vm1")
        #expect(guest.loadedMode == "module")
        #expect(guest.policy == "manual")
        #expect(guest.share == "virtiofs:vusb")
        #expect(guest.channel == ChannelInfo(state: "open", peer: "test 1", oneAtATime: false, urbsInFlight: 0))
        #expect(bench.store.state.modules?.map(\.loaded) == machine.modules.map { [$0] })
        #expect(bench.store.state.loaded.map(\.mode) == ["auto"])
        await bench.close()
        #expect(machine.journal == ["insmod"])
    }

    @Test(
        arguments: [
            ("auto", nil, "module"), ("files", nil, "files"), (nil, "files", "files"), (nil, nil, "module"),
            ("auto", "files", "files"), ("module", "files", "module"),
        ] as [(String?, String?, String)])
    func theModeIsTheOneAskedForOrDeclaredOrTheBestThatIsPossible(asked: String?, declared: String?, mode: String)
        async throws
    {
        let bench = try await Bench(machines: [TestMachine("vm1")])
        var specification = Bench.guest("vm1")
        specification.mode = declared
        _ = try await bench.plane.addGuest(specification)
        _ = try await bench.finish(await bench.plane.load("vm1", LoadRequest(mode: asked)))
        #expect(try await bench.plane.guest("vm1").loadedMode == mode)
        #expect((bench.tree.channels["vm1"] != nil) == (mode == "module"))
        await bench.close()
    }

    @Test func aMachineWithoutAnAgentIsLoadedInModeFiles() async throws {
        let bench = try await Bench(machines: [TestMachine("vm1")])
        _ = try await bench.plane.addGuest(GuestSpec(name: "vm1", connector: "qemu", qmp: "/run/vm1/qmp"))
        let info = try await bench.load("vm1")
        #expect(
            info.steps.map(\.name).contains(
                "in mode files, as its machine has no xHCI controller, and its declaration no agent and no share: "
                    + "endpoint files don't work inside a virtual machine; add -device qemu-xhci,id=xhci to its command "
                    + "line, or declare that for mode module"))
        #expect(try await bench.plane.guest("vm1").loadedMode == "files")
        let module = await problem { _ = try await bench.plane.load("vm1", LoadRequest(mode: "module")) }
        #expect(module?.code == .conflict)
        await bench.close()
    }

    /// L2
    @Test func aMachineThatIsOffIsAnErrorByHandWithTheRemedy() async throws {
        let (bench, machine) = try await Bench.withMachine()
        machine.turnOff()
        let info = try await bench.loadFails("vm1")
        #expect(info.error?.detail == "the machine of guest vm1 is off, paused, or out of reach")
        #expect(info.error?.remedy?.contains("start it") == true)
        #expect(try await bench.state(of: "vm1") == .failed)
        try await nothingIsLeft(bench, machine)
    }

    /// L6
    @Test func aLoadThatFailsInTheGuestSaysWhyAndLeavesNothing() async throws {
        let (bench, machine) = try await Bench.withMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        machine.change { $0.loadError = USBError(.invalid, "vermagic 6.1 and 6.12", remedy: "build one") }
        let info = try await bench.loadFails("vm1")
        #expect(info.error?.code == .failed)
        #expect(info.error?.detail == "load of guest vm1: vermagic 6.1 and 6.12")
        #expect(info.error?.remedy == "build one")
        #expect(try await bench.plane.guest("vm1").reason == "load of guest vm1: vermagic 6.1 and 6.12")
        let finding = await bench.plane.guestFindings().first
        #expect(finding?.summary == "failed: load of guest vm1: vermagic 6.1 and 6.12")
        #expect(finding?.remedy == "build one")
        try await nothingIsLeft(bench, machine)
    }

    @Test func whileAGuestIsBeingLoadedItIsBusy() async throws {
        let (bench, machine) = try await Bench.withMachine(["emu-a 0525:a4a0"])
        machine.change { $0.loadHangs = true }
        let operation = try await bench.plane.load("vm1", LoadRequest())
        _ = await machine.hangs.wait(for: 1)
        let load = await problem { _ = try await bench.plane.load("vm1", LoadRequest()) }
        let unload = await problem { _ = try await bench.plane.unload("vm1", ReleaseRequest()) }
        let attach = await problem { _ = try await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")) }
        for problem in [load, unload, attach] {
            #expect(problem?.code == .busy)
            #expect(problem?.detail == "guest vm1 is being loaded by operation \(operation.id)")
        }
        _ = try await bench.plane.cancelOperation(operation.id)
        _ = try await bench.finish(operation)
        await bench.close()
    }

    /// L7
    @Test func aModuleThatSaysNoHelloIsTakenOutAgain() async throws {
        let (bench, machine) = try await Bench.withMachine(["emu-a 0525:a4a0"], lists: ["emu-a"])
        machine.change { $0.saysHello = false }
        let info = try await bench.loadFails("vm1")
        let own = await bench.plane.exportedDirectory(of: "vm1")
        #expect(info.error?.code == .timedOut)
        #expect(info.error?.detail.contains("nobody has opened \(own)/hcd, which is /vusb/hcd there") == true)
        #expect(info.error?.remedy?.contains("must be \(own) and nothing") == true)
        #expect(machine.journal == ["insmod", "rmmod"])
        try await nothingIsLeft(bench, machine)
    }

    /// L7: with one request at a time a parked read keeps the hello itself out.
    @Test func aModuleThatOpensItsFileAndSaysNothingPointsToTheExporter() async throws {
        let (bench, machine) = try await Bench.withMachine()
        machine.change { $0.saysHello = false }
        let operation = try await bench.plane.load("vm1", LoadRequest())
        _ = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 5)
        bench.tree.setChannel("vm1", .greeting)
        let info = try await bench.finish(operation)
        #expect(info.error?.detail.contains("hasn't said hello") == true)
        #expect(info.error?.remedy?.contains("--thread-pool-size=4") == true)
        try await nothingIsLeft(bench, machine)
    }

    /// L6
    @Test func aCancelledLoadLeavesNothing() async throws {
        let (bench, machine) = try await Bench.withMachine()
        machine.change { $0.loadHangs = true }
        let operation = try await bench.plane.load("vm1", LoadRequest())
        _ = await machine.hangs.wait(for: 1)
        _ = try await bench.plane.cancelOperation(operation.id)
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(try await bench.state(of: "vm1") == .unloaded)
        try await nothingIsLeft(bench, machine)
    }

    /// L6: nothing follows before its half is undone.
    @Test func aLoadThatIsNotDoneInTimeEndsWhenItIsUndone() async throws {
        var times = Bench.times
        times.load = .milliseconds(50)
        times.unload = .seconds(60)
        let (bench, machine) = try await Bench.withMachine(times: times)
        machine.change { behaviour in
            behaviour.loadHangs = true
            behaviour.undoHangs = true
        }
        let operation = try await bench.plane.load("vm1", LoadRequest())
        let info = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 5)
        #expect(info.state == .running)
        #expect(info.steps.last?.name == "not done within 0.05 s: it's being undone")
        _ = await machine.hangs.wait(for: 2)
        machine.letGo()
        let end = try await bench.finish(operation)
        #expect(end.error?.code == .timedOut)
        #expect(end.error?.detail == "load of guest vm1: guest vm1 didn't answer within 0.05 s: cancelled")
        #expect(machine.journal == ["undone"])
        try await nothingIsLeft(bench, machine)
    }

    /// L5: what goes on even after that, the next load doesn't meet.
    @Test func aLoadIsRefusedWhileTheOneBeforeIsStillBeingUndone() async throws {
        var times = Bench.times
        times.load = .milliseconds(50)
        times.unload = .milliseconds(200)
        let (bench, machine) = try await Bench.withMachine(times: times)
        machine.change { behaviour in
            behaviour.loadHangs = true
            behaviour.undoHangs = true
        }
        #expect(try await bench.loadFails("vm1").error?.code == .timedOut)
        _ = await machine.hangs.wait(for: 2)
        machine.change { $0.loadHangs = false }
        let info = try await bench.loadFails("vm1")
        #expect(info.error?.code == .busy)
        #expect(info.error?.detail.hasSuffix("began in guest vm1 hasn't ended yet") == true)
        #expect(machine.journal.isEmpty)
        machine.letGo()
        try await bench.load("vm1")
        #expect(machine.journal == ["undone", "insmod"])
        #expect(try await bench.unload("vm1").state == .succeeded)
        #expect(machine.journal == ["undone", "insmod", "rmmod"])
        try await nothingIsLeft(bench, machine)
    }

    /// L8
    @Test func aLoadThatIsCancelledWithADeviceAttachedTakesAllBack() async throws {
        let (bench, machine) = try await Bench.withMachine(
            ["emu-a 0525:a4a0", "emu-b 0525:a4a1"], lists: ["emu-a", "emu-b"])
        bench.source.holdOpen(DeviceID("emu-b"))
        let operation = try await bench.plane.load("vm1", LoadRequest())
        _ = await bench.source.heldOpens.wait(for: 1)
        _ = try await bench.plane.cancelOperation(operation.id)
        bench.source.letOpen(DeviceID("emu-b"))
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(bench.tree.journal == ["withdraw 1-1 now"])
        #expect(machine.journal == ["insmod", "rmmod"])
        try await nothingIsLeft(bench, machine)
    }

    /// L7, undone in part
    @Test func whatCannotBeTakenOutIsToldAndFoundByTheNextLoad() async throws {
        let (bench, machine) = try await Bench.withMachine()
        machine.change { behaviour in
            behaviour.saysHello = false
            behaviour.unloadError = USBError(.busy, "vusb_hcd is in use")
        }
        let info = try await bench.loadFails("vm1")
        let left = "left in the guest: vusb_channel, vusb_hcd, the mount at /vusb: vusb_hcd is in use"
        #expect(info.steps.last?.name == left)
        #expect(await bench.event("guest-leftover")?.detail == left)
        machine.change { behaviour in
            behaviour.saysHello = true
            behaviour.unloadError = nil
        }
        let again = try await bench.load("vm1")
        #expect(again.steps.map(\.name).contains("module is loaded since before"))
        #expect(machine.journal == ["insmod"])
        #expect(try await bench.unload("vm1").state == .succeeded)
        try await nothingIsLeft(bench, machine)
    }

    private func nothingIsLeft(_ bench: Bench, _ machine: TestMachine) async throws {
        #expect(machine.modules == nil)
        #expect(bench.monitor.boundGuests.isEmpty)
        #expect(bench.tree.channels.isEmpty)
        #expect(bench.tree.guests["vm1"]?.isPublished == false)
        #expect(await bench.plane.devices().allSatisfy { $0.state == .available })
        #expect(bench.store.state.loaded.isEmpty)
        #expect(bench.store.state.modules == nil)
        await bench.close()
    }
}
