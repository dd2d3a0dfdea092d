// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBIP
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// Mode `usbip` of a machine that vusbd gets into: steps and cases of Attach.md.
@Suite(.timeLimit(.minutes(1))) struct ClientTests {
    private static func bench(
        agent: Bool = true, listen: [String]? = ["tcp:3240"], lists: [String] = [], store: MemoryStore = MemoryStore(),
        _ machine: TestMachine = TestMachine("vm1")
    ) async throws -> (bench: Bench, machine: TestMachine) {
        let bench = try await Bench(store: store, machines: [machine])
        for device in ["emu-a 0525:a4a0", "emu-b 0525:a4a1"] { _ = try await bench.plane.plugIn(device) }
        _ = try await bench.plane.addGuest(
            GuestSpec(
                name: "vm1", connector: "qemu", mode: "usbip", qmp: "/run/vm1/qmp",
                agent: agent ? "/run/vm1/agent" : nil, listen: listen, clients: listen == nil ? ["cid:3"] : nil,
                devices: lists))
        return (bench, machine)
    }

    private static let recipe = "its client: modprobe vhci-hcd; usbip attach -r 10.0.2.2 -b BUSID"
    private static let address = "tcp(host: \"127.0.0.1\", port: 3240)"

    @Test("A1 to A9: the client is made ready, then attaches each device before it counts as attached")
    func loads() async throws {
        let (bench, machine) = try await Self.bench(lists: ["emu-a"])
        let info = try await bench.load("vm1")
        #expect(
            info.steps.map(\.name) == [
                "bound", "published", "clients connect to tcp:3240", "loading vhci-hcd", "opening emu-a",
                "emu-a attached inside, over vsock:2:1", "attached emu-a as 1-1",
            ])
        #expect(bench.store.state.modules?.map(\.loaded) == machine.modules.map { [$0] })
        try await bench.attach("emu-b", "vm1")
        #expect(
            machine.journal.map { $0.replacing("VUSBVMM.AttachAddress.", with: "") } == [
                "load [\(Self.address)]", "attach 1-1", "attach 1-2",
            ])
        #expect(try await bench.unload("vm1").state == .succeeded)
        #expect(machine.journal.last == "rmmod" && machine.modules == nil)
        #expect(bench.store.state.modules == nil)
        await bench.close()
    }

    @Test("C11: a detach runs nothing in the guest")
    func detach() async throws {
        let (bench, machine) = try await Self.bench(lists: ["emu-a"])
        try await bench.load("vm1")
        let before = machine.journal
        #expect(try await bench.detach("emu-a").state == .succeeded)
        #expect(machine.journal == before)
        #expect(bench.usbip.exports.map(\.journal) == [["quiet", "end"]])
        await bench.close()
    }

    @Test("C1: without an agent the recipe is told, and devices are offered as to any client")
    func noAgent() async throws {
        let (bench, machine) = try await Self.bench(agent: false)
        let info = try await bench.load("vm1")
        #expect(info.steps.map(\.name).suffix(2) == ["clients connect to tcp:3240", Self.recipe])
        let attach = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")))
        #expect(attach.steps.last?.name == Self.recipe.replacing("BUSID", with: "1-1"))
        #expect(machine.journal.isEmpty)
        await bench.close()
    }

    @Test("C2 to C6: why not from inside is told with the remedy, then the recipe; the load goes on")
    func failure() async throws {
        let (bench, machine) = try await Self.bench(lists: ["emu-a"])
        machine.change { $0.clientError = USBError(.notFound, "load vhci-hcd: none", remedy: "install it") }
        let info = try await bench.load("vm1")
        #expect(
            info.steps.map(\.name).suffix(4) == [
                "not attached from inside: load of guest vm1: load vhci-hcd: none; install it",
                "opening emu-a", "attached emu-a as 1-1", Self.recipe.replacing("BUSID", with: "1-1"),
            ])
        #expect(machine.journal.isEmpty && bench.usbip.offered.count == 1)
        #expect(try await bench.unload("vm1").state == .succeeded)
        await bench.close()
    }

    @Test("C2: an agent that says nothing keeps no load waiting for ever")
    func silence() async throws {
        let (bench, machine) = try await Self.bench()
        machine.change { $0.agentError = USBError(.timedOut, "no agent") }
        let info = try await bench.load("vm1")
        #expect(info.steps.map(\.name).last == Self.recipe)
        await bench.close()
    }

    @Test("C2: an agent that says nothing, and a guest that is known by its CID at a shared listener, or by none yet")
    func silenceAtSharedListeners() async throws {
        let (bench, machine) = try await Self.bench(listen: nil, lists: ["emu-a"])
        machine.change { $0.agentError = USBError(.timedOut, "no agent") }
        try await bench.plane.listen(at: [USBIPListenerSpec(address: .unix(path: "/x"))])
        let none = try await bench.load("vm1")
        #expect(
            none.steps.last?.name
                == "its client: nothing listens where it's known; add vsock:3240 to usbip: in vusb.yaml")
        let finding = await bench.plane.usbipFindings().first { $0.check == "guest vm1" }
        #expect(finding?.level == .warning && finding?.summary == "nothing listens where its clients are known")
        _ = try await bench.unload("vm1")
        try await bench.plane.listen(at: [USBIPListenerSpec(address: .vsock(port: 5))])
        let info = try await bench.load("vm1")
        #expect(info.steps.last?.name == "its client: modprobe vhci-hcd; vusb-attach vsock:2:5 1-1")
        #expect(await bench.plane.usbipFindings().allSatisfy { $0.level == .ok })
        for listener in bench.usbip.listeners { await listener.end() }
        await bench.close()
    }

    @Test("C7, C8: a device that the client doesn't get stays offered, with the command")
    func refused() async throws {
        let (bench, machine) = try await Self.bench()
        try await bench.load("vm1")
        machine.change { $0.attachError = USBError(.busy, "it's in use") }
        let before = await bench.lastSequence
        let info = try await bench.finish(await bench.plane.attach("emu-a", AttachRequest(guest: "vm1")))
        #expect(info.state == .succeeded)
        let text = "emu-a isn't attached inside: it's in use"
        #expect(info.steps.map(\.name).contains("\(text); it's offered: vusb-attach vsock:2:1 1-1"))
        #expect(await bench.event("attach-failed", after: before)?.detail == text)
        #expect(try await bench.plane.guest("vm1").attachments.map(\.state) == ["free"])
        await bench.close()
    }

    @Test("C9: a load that is cancelled ends when the guest is as it was")
    func cancelledLoad() async throws {
        let (bench, machine) = try await Self.bench()
        machine.change { $0.loadHangs = true }
        let operation = try await bench.plane.load("vm1", LoadRequest())
        _ = await machine.hangs.wait(for: 1)
        _ = try await bench.plane.cancelOperation(operation.id)
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(machine.journal == ["undone"])
        #expect(bench.usbip.addresses.isEmpty)
        await bench.close()
    }

    @Test("C10: an attach that is cancelled offers the device to nobody")
    func cancelledAttach() async throws {
        let (bench, machine) = try await Self.bench()
        try await bench.load("vm1")
        machine.change { $0.attachHangs = true }
        let operation = try await bench.plane.attach("emu-a", AttachRequest(guest: "vm1"))
        _ = await machine.hangs.wait(for: 1)
        _ = try await bench.plane.cancelOperation(operation.id)
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(bench.usbip.offered.isEmpty)
        #expect(try await bench.state("emu-a") == .available)
        machine.change { $0.attachHangs = false }
        await bench.close()
    }

    @Test("C16: a session that has ended before the attach is done: the device is reset and offered again")
    func endedMeanwhile() async throws {
        let (bench, machine) = try await Self.bench()
        try await bench.load("vm1")
        machine.change { $0.attachWaits = true }
        let before = await bench.lastSequence
        let operation = try await bench.plane.attach("emu-a", AttachRequest(guest: "vm1"))
        _ = await machine.hangs.wait(for: 1)
        let export = try #require(bench.usbip.exports.first)
        bench.usbip.end(export)
        _ = await bench.event("guest-channel", after: before)
        #expect(export.journal.isEmpty)
        machine.letGo()
        #expect(try await bench.finish(operation).state == .succeeded)
        _ = await bench.event("operation", after: before) {
            $0.detail?.hasPrefix("reset") == true && $0.detail?.hasSuffix("succeeded") == true
        }
        #expect(export.journal == ["readmit", "resume"])
        await bench.close()
    }

    @Test("C13: a machine that starts anew is loaded again from the start")
    func reboot() async throws {
        let (bench, machine) = try await Self.bench(lists: ["emu-a"])
        try await bench.load("vm1")
        let before = await bench.lastSequence
        bench.turnOff(machine)
        await bench.state("waiting", of: "vm1", after: before)
        bench.start(machine)
        await bench.state("loaded", of: "vm1", after: before)
        #expect(machine.journal.filter { $0.hasPrefix("attach") } == ["attach 1-1", "attach 1-1"])
        #expect(machine.modules?.bootID == "vm1 2")
        await bench.close()
    }

    @Test("C14: the next vusbd finds what the one before it has brought")
    func restart() async throws {
        let store = MemoryStore()
        let machine = TestMachine("vm1")
        let (first, _) = try await Self.bench(lists: ["emu-a"], store: store, machine)
        try await first.load("vm1")
        let saved = store.state
        await first.close()
        let second = try await Bench(store: store, machines: [machine])
        _ = try await second.plane.plugIn("emu-a 0525:a4a0")
        await second.plane.restore(saved, configured: [])
        await second.state("loaded", of: "vm1", after: 0)
        #expect(machine.journal.filter { $0.hasSuffix(" again") }.count == 1)
        #expect(try await second.unload("vm1").state == .succeeded)
        #expect(machine.modules == nil)
        await second.close()
    }

    @Test("a guest that is known at shared listeners attaches there, where they have no TLS")
    func shared() async throws {
        let (bench, machine) = try await Self.bench(listen: nil)
        try await bench.plane.listen(at: [
            USBIPListenerSpec(address: .unix(path: "/x")), USBIPListenerSpec(address: .vsock(port: 5)),
        ])
        try await bench.load("vm1")
        #expect(machine.journal.first?.contains("vsock(port: 5)") == true)
        #expect(machine.journal.first?.contains("/x") == false)
        for listener in bench.usbip.listeners { await listener.end() }
        await bench.close()
    }
}
