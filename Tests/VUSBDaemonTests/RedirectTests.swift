// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBRedir
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// Mode `redirect` (Redirect.md, A1 to A4, D1 to D4): what the control plane does with machines and sockets.
@Suite(.timeLimit(.minutes(1))) struct RedirectTests {
    private static let xhci = GuestController(bus: "xhci.0", kind: .xhci, ports: 4, freePorts: 4)

    /// A machine with that controller, a guest with nothing but its monitor, and devices.
    private static func bench(
        _ devices: [String] = [], lists: [String] = [], controllers: [GuestController] = [xhci],
        store: MemoryStore = MemoryStore()
    ) async throws -> (Bench, TestMachine) {
        let machine = TestMachine("vm1")
        machine.change { $0.controllers = controllers }
        let bench = try await Bench(store: store, machines: [machine])
        for device in devices { _ = try await bench.plane.plugIn(device) }
        _ = try await bench.plane.addGuest(
            GuestSpec(name: "vm1", connector: "qemu", qmp: "/run/vm1/qmp", devices: lists))
        return (bench, machine)
    }

    @Test func autoIsRedirectWhereTheMachineHasAnXHCIController() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        let info = try await bench.load("vm1")
        #expect(
            info.steps.map(\.name) == [
                "bound", "published in mode redirect", "controllers: xhci.0 (xhci, 4 free)", "opening emu-a",
                "plugged emu-a into port 1 of xhci.0", "attached emu-a as 1-1",
            ])
        let attachment = try #require(try await bench.plane.guest("vm1").attachments.first)
        #expect(attachment.mode == "redirect")
        #expect(attachment.state == "connected")
        #expect(machine.journal == ["plug vm1.1-1 at /run/redirect/vm1-1-1"])
        #expect(bench.store.state.loaded.map(\.mode) == ["auto"])
        await bench.close()
        #expect(machine.journal.last == "unplug vm1.1-1")
    }

    @Test(arguments: [[], [GuestController(bus: "usb-bus.0", kind: .ehci)]])
    func autoIsFilesWhereItHasNone(controllers: [GuestController]) async throws {
        let (bench, _) = try await Self.bench(controllers: controllers)
        try await bench.load("vm1")
        #expect(try await bench.plane.guest("vm1").loadedMode == "files")
        await bench.close()
    }

    @Test func autoStaysWithTheModuleThatIsLoaded() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine()
        machine.change { $0.controllers = [Self.xhci] }
        let state = bench.store.state
        #expect(state.modules != nil)
        await bench.plane.stop(deadline: .zero)

        let store = MemoryStore()
        await store.save(state, revision: 1)
        let next = try await Bench(store: store, machines: [machine])
        await next.plane.restore(state, configured: [])
        #expect(try await next.plane.guest("vm1").loadedMode == "module")
        await next.close()
    }

    @Test func aMachineWithoutControllersIsToldWhatToAdd() async throws {
        let (bench, _) = try await Self.bench(controllers: [])
        let info = try await bench.finish(await bench.plane.load("vm1", LoadRequest(mode: "redirect")))
        #expect(info.error?.detail.contains("guest vm1 has no USB controller") == true)
        #expect(info.error?.remedy?.contains("-device qemu-xhci") == true)
        #expect(try await bench.state(of: "vm1") == .failed)
        await bench.close()
    }

    @Test func aPausedMachineIsLoadedAndSeesItsDevicesLater() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"])
        machine.pause()
        bench.redirect.begin(with: .greeting)
        try await bench.load("vm1")
        let info = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")))
        #expect(info.state == .succeeded)
        #expect(info.steps.map(\.name).contains("the guest is paused: it sees emu-a when it runs"))
        #expect(info.attachment?.state == "greeting")
        await bench.close()
    }

    @Test func leftoversAreTakenAwayFirst() async throws {
        let (bench, machine) = try await Self.bench()
        machine.change { $0.leftovers = 2 }
        let info = try await bench.load("vm1")
        #expect(info.steps.map(\.name).contains("unplugged 2 of an earlier vusbd's"))
        await bench.close()
    }

    @Test func anAttachThatTheMachineRefusesLeavesNothing() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"])
        try await bench.load("vm1")
        machine.change { $0.plugError = USBError(.busy, "all ports of xhci.0 are taken", remedy: "give it more") }
        let info = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")))
        #expect(info.state == .failed)
        #expect(info.error?.detail.contains("all ports of xhci.0 are taken") == true)
        #expect(try await bench.state("emu-a") == .available)
        #expect(bench.redirect.open.isEmpty)
        // The numbers are free again.
        machine.change { $0.plugError = nil }
        #expect(try await bench.attach("emu-a", "vm1").path == "1-1")
        await bench.close()
    }

    @Test func aConnectionThatIsClosedAtOnceFailsTheAttach() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"])
        try await bench.load("vm1")
        bench.redirect.begin(with: .closed)
        let info = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")))
        #expect(info.error?.detail.contains("its machine has closed the connection") == true)
        #expect(try await bench.state("emu-a") == .available)
        #expect(machine.journal.last == "unplug vm1.1-1")
        await bench.close()
    }

    @Test func aDetachQuietsDrainsUnplugs() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        let info = try await bench.detach("emu-a", deadline: 1)
        #expect(
            info.steps.map(\.name) == ["draining", "drained", "unplugging", "reset emu-a", "detached emu-a"])
        #expect(bench.redirect.ports.first?.journal == ["quiet", "end"])
        #expect(machine.journal.last == "unplug vm1.1-1")
        await bench.close()
    }

    @Test func aDetachThatIsRefusedLeavesAllAsItWas() async throws {
        let (bench, _) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        try bench.read("1-1", of: "vm1")
        let info = try await bench.detach("emu-a")
        #expect(info.error?.code == .busy)
        #expect(bench.redirect.ports.first?.journal == ["quiet", "resume"])
        #expect(try await bench.state("emu-a") == .attached)
        #expect(try await bench.detach("emu-a", .cancel).state == .succeeded)
        await bench.close()
    }

    @Test func aStreamIsUse() async throws {
        let (bench, _) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        bench.redirect.ports.first?.change { $0.streams = 1 }
        #expect(try await bench.detach("emu-a", deadline: 0.1).error?.code == .busy)
        // It wasn't even made quiet: the stream goes on.
        #expect(bench.redirect.ports.first?.journal == ["resume"])
        #expect(try await bench.detach("emu-a", .cancel).state == .succeeded)
        await bench.close()
    }

    @Test func aDeviceThatWasWorkedWithAMomentAgoIsInUse() async throws {
        let (bench, _) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        let port = try #require(bench.redirect.ports.first)
        port.change { $0.idle = .milliseconds(20) }
        let info = try await bench.detach("emu-a", deadline: 0.1)
        #expect(info.error?.code == .busy)
        #expect(info.error?.detail.contains("guest vm1 uses device emu-a yet") == true)
        port.change { $0.idle = .seconds(1) }
        #expect(try await bench.detach("emu-a").state == .succeeded)
        await bench.close()
    }

    @Test func aMachineThatDoesNotLetGoIsReportedAndCutWithForce() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        machine.change { $0.unplugError = USBError(.timedOut, "QEMU doesn't answer device_del") }
        let info = try await bench.detach("emu-a")
        #expect(info.error?.code == .busy)
        #expect(info.error?.detail.contains("doesn't let go of emu-a") == true)
        #expect(try await bench.state("emu-a") == .attached)
        let forced = try await bench.detach("emu-a", .cancel)
        #expect(forced.state == .succeeded)
        #expect(forced.steps.map(\.name).contains("emu-a is cut off: QEMU doesn't answer device_del"))
        await bench.close()
    }

    /// D3: what was asked of it would be done when it goes on.
    @Test func aMachineThatDoesNotAnswerIsNotAskedToLetGo() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        machine.change { $0.answerError = USBError(.timedOut, "QEMU of guest vm1 doesn't answer") }
        let refused = try await bench.detach("emu-a", deadline: 0.1)
        #expect(refused.error?.detail.contains("QEMU of guest vm1 doesn't answer") == true)
        #expect(machine.journal.count == 1)
        #expect(bench.redirect.ports.first?.journal == ["quiet", "resume"])
        #expect(try await bench.detach("emu-a", .cancel).state == .succeeded)
        #expect(machine.journal.last == "unplug vm1.1-1")
        await bench.close()
    }

    /// D1: it goes on later.
    @Test func whatAMachineWorkedWithWhenItWasPausedIsInUse() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        let port = try #require(bench.redirect.ports.first)
        port.change { $0.idle = .zero }
        machine.pause()
        bench.monitor.tell(.stopped, "vm1")
        _ = await bench.event("guest-life") { $0.detail == "stopped" }
        port.change { $0.idle = .seconds(60) }
        let refused = try await bench.detach("emu-a", deadline: 0.1)
        #expect(refused.error?.detail.contains("was paused while it worked with") == true)
        machine.resume()
        bench.monitor.tell(.resumed, "vm1")
        _ = await bench.event("guest-life") { $0.detail == "resumed" }
        #expect(try await bench.detach("emu-a", deadline: 0.1).state == .succeeded)
        await bench.close()
    }

    @Test func anUnpluggedDeviceLeavesTheMachineToo() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        try await bench.plane.pullOut(DeviceID("emu-a"))
        // Its end waits for what goes on in the background.
        await bench.close()
        #expect(machine.journal.last == "unplug vm1.1-1")
    }

    @Test func aResetIsTheMachinesOwnAffair() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        bench.monitor.tell(.reset, "vm1")
        bench.monitor.tell(.stopped, "vm1")
        _ = await bench.event("guest-life") { $0.detail == "stopped" }
        #expect(try await bench.state("emu-a") == .attached)
        #expect(machine.journal.count == 1)
        await bench.close()
    }

    @Test func aMachineThatIsBackGetsItsDevicesAgain() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        let sequence = await bench.lastSequence
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: sequence)
        #expect(try await bench.state("emu-a") == .available)
        bench.start(machine)
        await bench.state("loaded", of: "vm1", after: sequence)
        #expect(try await bench.plane.guest("vm1").attachments.map(\.state) == ["connected"])
        await bench.close()
    }

    /// As with QEMU's -S: what it is to have is in it before it runs.
    @Test func aMachineThatIsBackAndPausedGetsThemToo() async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        let sequence = await bench.lastSequence
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: sequence)
        bench.redirect.begin(with: .greeting)
        machine.pause()
        bench.monitor.tell(.stopped, "vm1")
        await bench.state("loaded", of: "vm1", after: sequence)
        #expect(try await bench.plane.guest("vm1").attachments.map(\.state) == ["greeting"])
        await bench.close()
    }

    @Test func aMachineThatIsBackAndPausedWaitsForItsModule() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine()
        let sequence = await bench.lastSequence
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: sequence)
        machine.pause()
        bench.monitor.tell(.stopped, "vm1")
        _ = await bench.event("guest-life") { $0.detail == "stopped" }
        #expect(try await bench.state(of: "vm1") == .waiting)
        bench.start(machine)
        await bench.state("loaded", of: "vm1", after: sequence)
        await bench.close()
    }

    @Test(
        arguments: [
            RedirEvent.Kind.closed(violation: "a second hello"), .rejected(reason: "its filter"),
            .closed(violation: nil),
        ])
    func aConnectionThatEndsGivesTheDeviceBack(kind: RedirEvent.Kind) async throws {
        let (bench, machine) = try await Self.bench(["emu-a 0525:a4a0"])
        try await bench.load("vm1")
        try await bench.attach("emu-a", "vm1")
        bench.redirect.tell(kind, "vm1", "1-1")
        _ = await bench.event("operation") {
            $0.detail?.hasPrefix("detach") == true && $0.detail?.hasSuffix("succeeded") == true
        }
        #expect(try await bench.state("emu-a") == .available)
        #expect(machine.journal.last == "unplug vm1.1-1")
        await bench.close()
    }

    @Test func aConnectionThatEndsDuringADetachIsNotTakenBack() async throws {
        let (bench, _) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        try bench.read("1-1", of: "vm1")
        bench.redirect.ports.first?.change { $0.state = .closed }
        #expect(try await bench.detach("emu-a").state == .failed)
        _ = await bench.event("operation") { $0.detail == "detach 3 succeeded" }
        #expect(try await bench.state("emu-a") == .available)
        await bench.close()
    }

    @Test func aStopQuietsWhatItDrains() async throws {
        let (bench, _) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        await bench.close()
        #expect(bench.redirect.ports.first?.journal == ["quiet", "end"])
    }

    @Test func autoIsNoGuessWhereTheMachineCannotBeAsked() async throws {
        let (bench, machine) = try await Self.bench()
        machine.turnOff()
        let info = try await bench.finish(await bench.plane.load("vm1", LoadRequest()))
        #expect(info.state == .failed)
        #expect(info.error?.detail.contains("is off") == true)
        #expect(try await bench.plane.guest("vm1").loadedMode == nil)
        await bench.close()
    }

    @Test func theNewsOfAConnectionAreTold() async throws {
        let (bench, _) = try await Self.bench(["emu-a 0525:a4a0"], lists: ["emu-a"])
        try await bench.load("vm1")
        bench.redirect.tell(.connected(peer: "qemu"), "vm1", "1-1")
        let event = await bench.event("guest-channel")
        #expect(event?.detail == "1-1: hello from 'qemu'")
        await bench.close()
    }
}
