// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

/// Character nodes of guests in mode `files`: what the control plane does with them.
@Suite(.timeLimit(.minutes(1))) struct NodeTests {
    private static func bench(nodes: Bool? = true, process: Int? = Int(getpid())) async throws -> Bench {
        let bench = try await Bench()
        for device in ["emu-a 0525:a4a0", "emu-b 0525:a4a1"] { _ = try await bench.plane.plugIn(device) }
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", nodes: nodes, devices: ["emu-a"]))
        try await bench.load("web1", process: process)
        return bench
    }

    @Test func aDeviceOfAGuestWithNodesCarriesTheNumbersOfItsNode() async throws {
        let bench = try await Self.bench()
        let attachment = try #require(try await bench.plane.guest("web1").attachments.first)
        #expect(attachment.major == 240)
        #expect(bench.tree.guests["web1"]?.attachments["1-1"]?.node?.number.major == 240)
        #expect(try await bench.plane.guest("web1").nodes)
        await bench.close()
        #expect(bench.nodes.ports.map(\.journal) == [["quiet", "end"]])
    }

    @Test func othersHaveNone() async throws {
        let bench = try await Self.bench(nodes: nil)
        #expect(bench.nodes.ports.isEmpty)
        #expect(try await bench.plane.guest("web1").attachments.first?.major == 512)
        await bench.close()
    }

    @Test func whereThereIsNoCUSEALoadSaysWhatToDo() async throws {
        let bench = try await Bench()
        bench.nodes.obstruct(USBError(.unsupported, "/dev/cuse not found", remedy: "modprobe cuse"))
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", nodes: true))
        let info = try await bench.finish(await bench.plane.load("web1", LoadRequest()))
        #expect(info.error?.detail.contains("/dev/cuse not found") == true)
        #expect(info.error?.remedy == "modprobe cuse")
        _ = try await bench.plane.addGuest(GuestSpec(name: "web2"))
        try await bench.load("web2")
        await bench.close()
    }

    @Test func anAttachWhoseNodeCannotBeMadeLeavesNothing() async throws {
        let bench = try await Self.bench()
        bench.nodes.fail(USBError(.io, "no more character devices"))
        let info = try await bench.finish(await bench.plane.attach("emu-b", AttachRequest(guest: "web1")))
        #expect(info.error?.detail.contains("no more character devices") == true)
        #expect(try await bench.state("emu-b") == .available)
        bench.nodes.fail(nil)
        #expect(try await bench.attach("emu-b", "web1").path == "1-2")
        await bench.close()
    }

    @Test func programsInTheGuestsNetworkAreToldWhatComesAndGoes() async throws {
        let bench = try await Self.bench()
        try await bench.attach("emu-b", "web1")
        #expect(try await bench.detach("emu-b", deadline: 1).state == .succeeded)
        #expect(bench.nodes.told == ["add /1-1", "add /1-2", "remove /1-2"])
        await bench.close()
    }

    @Test func aGuestWithoutAProcessHasNobodyToTell() async throws {
        let bench = try await Self.bench(process: nil)
        #expect(bench.nodes.told == [])
        await bench.close()
    }

    @Test func aLoadedGuestBecomesAContainerThatIsTold() async throws {
        let bench = try await Self.bench(process: nil)
        let missing = await problem { _ = try await bench.plane.load("web1", LoadRequest(process: Int(Int32.max))) }
        #expect(missing?.code == .conflict)
        try await bench.load("web1", process: Int(getpid()))
        #expect(try await bench.state(of: "web1") == .loaded)
        #expect(bench.nodes.ports.map(\.journal) == [[]])
        try await bench.attach("emu-b", "web1")
        #expect(bench.nodes.told == ["add /1-2"])
        await bench.close()
    }

    @Test func aDeviceThatAProgramHasClaimedIsInUse() async throws {
        let bench = try await Self.bench()
        let port = try #require(bench.nodes.ports.first)
        port.use(by: 4711)
        let refused = try await bench.detach("emu-a")
        #expect(refused.error?.detail.contains("process 4711") == true)
        #expect(try await bench.state("emu-a") == .attached)
        #expect(!port.journal.contains("end"))
        port.use(by: nil)
        #expect(try await bench.detach("emu-a", deadline: 1).state == .succeeded)
        #expect(port.journal == ["resume", "quiet", "end"])
        await bench.close()
    }

    @Test func aDeviceThatIsUnpluggedTakesItsNodeAlong() async throws {
        let bench = try await Self.bench()
        try await bench.plane.unplug("emu-a")
        #expect(bench.nodes.ports.first?.journal.last == "end")
        #expect(bench.nodes.told.last == "remove /1-1")
        await bench.close()
    }

    @Test func aNodeThatTheKernelEndsTakesItsDeviceBack() async throws {
        let bench = try await Self.bench()
        bench.nodes.lose("1-1", of: "web1")
        _ = await bench.event("operation") {
            $0.detail?.hasPrefix("detach") == true && $0.detail?.hasSuffix("succeeded") == true
        }
        #expect(try await bench.state("emu-a") == .available)
        await bench.close()
    }

    @Test(arguments: [
        GuestSpec(name: "vm1", connector: "qemu", qmp: "/run/qmp", nodes: true),
        GuestSpec(name: "vm1", mode: "module", nodes: true),
    ]) func onlyProgramsOfThisKernelCanHaveThem(guest: GuestSpec) async throws {
        let bench = try await Bench()
        await #expect(throws: Problem.self) { _ = try await bench.plane.addGuest(guest) }
        await bench.close()
    }

    @Test func aGuestHasItsMajorNumberAfterARestart() async throws {
        let bench = try await Self.bench()
        let major = try #require(try await bench.plane.guest("web1").nodeMajor)
        let saved = bench.store.state
        #expect(saved.majors == [SavedState.Major(guest: "web1", major: major)])
        await bench.close()
        let next = try await Bench()
        var other = saved
        other.majors = [SavedState.Major(guest: "web1", major: 250)]
        await next.plane.restore(other, configured: [])
        #expect(try await next.plane.guest("web1").nodeMajor == 250)
        await next.close()
    }

    @Test func aGuestThatIsARunningProcessIsntMadeAnother() async throws {
        let bench = try await Self.bench()
        let refused = await problem { _ = try await bench.plane.load("web1", LoadRequest(process: 1)) }
        #expect(refused?.code == .conflict)
        await bench.close()
    }
}
