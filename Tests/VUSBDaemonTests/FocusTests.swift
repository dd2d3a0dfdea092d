// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

/// The devices of a set go from guest to guest together (Arbiter.md, F1 to F8).
@Suite(.timeLimit(.minutes(1))) struct FocusTests {
    private static let devices = ["emu-disk", "emu-disk2", "emu-keyboard"]

    private func desk(follows: Bool = false) -> FocusSet {
        FocusSet(
            name: "desk", devices: Self.devices.compactMap { DeviceSelector($0) }, guests: ["web1", "web2"],
            chord: .standard, follows: follows)
    }

    /// All of the set with web1.
    private func bench(_ sets: [FocusSet]? = nil, machines: [TestMachine] = []) async throws -> Bench {
        let bench = try await Bench()
        await bench.plane.restore(SavedState(), configured: [], focus: sets ?? [desk()])
        for device in ["emu-disk 0525:a4a5", "emu-disk2 0525:a4a6", "emu-keyboard 0525:a4ac"] {
            _ = try await bench.plane.plugIn(device)
        }
        for name in ["web1", "web2", "web3"] {
            _ = try await bench.plane.addGuest(GuestSpec(name: name))
            try await bench.load(name)
        }
        for device in Self.devices { try await bench.attach(device) }
        return bench
    }

    private func focus(
        _ bench: Bench, _ guest: String = "web2", deadline: Double = 0, onDeadline: FocusRequest.OnDeadline? = nil
    ) async throws -> OperationInfo {
        try await bench.plane.focus(
            FocusRequest(guest: guest, deadlineSeconds: deadline, onDeadline: onDeadline))
    }

    private func holders(_ bench: Bench) async throws -> [String?] {
        var holders: [String?] = []
        for device in Self.devices { holders.append(try await bench.plane.device(device).attachment?.guest) }
        return holders
    }

    /// Returns once the operation waits for that device.
    private func waits(_ operation: OperationInfo, for device: String, _ bench: Bench) async throws {
        var info = operation
        while !info.steps.contains(where: { $0.name.hasPrefix("waiting for \(device):") }) {
            info = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: info.steps.count)
            try #require(info.state == .running)
        }
    }

    private static func all(_ guest: String?) -> [String?] { devices.map { _ in guest } }

    @Test("all go over, keyboards last, though somebody reads one (F1, F3, F7)")
    func all() async throws {
        let bench = try await bench()
        try bench.read("1-3", bytes: 8)
        let info = try await bench.finish(focus(bench))
        #expect(info.state == .succeeded, "\(info)")
        #expect(try await holders(bench) == Self.all("web2"))
        let given = info.steps.map(\.name).filter { $0.hasPrefix("detached ") }
        #expect(given == ["detached emu-disk", "detached emu-disk2", "detached emu-keyboard"])
        #expect(await bench.plane.focusSets().first?.focused == "web2")
        #expect(bench.handler.completions.count == 1)
        // There is nothing to do a second time.
        #expect(try await bench.finish(focus(bench)).state == .succeeded)
        await bench.close()
    }

    @Test("one that is in use keeps all where they are (F5)")
    func busy() async throws {
        let bench = try await bench()
        bench.tree.setOpenFiles(1, "1-2", of: "web1")
        let info = try await bench.finish(focus(bench))
        #expect(info.error?.code == .busy, "\(info)")
        // F2a: not even for a moment.
        #expect(!info.steps.contains { $0.name.hasPrefix("detached") }, "\(info)")
        #expect(try await holders(bench) == Self.all("web1"))
        #expect(await bench.plane.focusSets().first?.focused == "web1")
        bench.tree.setOpenFiles(0, "1-2", of: "web1")
        #expect(try await bench.finish(focus(bench)).state == .succeeded)
        await bench.close()
    }

    @Test("with cancel it goes over all the same (F3)")
    func cancelling() async throws {
        let bench = try await bench()
        bench.tree.setOpenFiles(1, "1-2", of: "web1")
        #expect(try await bench.finish(focus(bench, onDeadline: .cancel)).state == .succeeded)
        #expect(try await holders(bench) == Self.all("web2"))
        await bench.close()
    }

    @Test("one that can't be opened for the guest brings all back (F6)", arguments: devices)
    func failing(device: String) async throws {
        let bench = try await bench()
        bench.source.failOnce(DeviceID(device), with: USBError(.io, "no luck"))
        let info = try await bench.finish(focus(bench))
        #expect(info.error?.detail.contains("no luck") == true, "\(info)")
        #expect(try await holders(bench) == Self.all("web1"))
        #expect(try await bench.finish(focus(bench)).state == .succeeded)
        await bench.close()
    }

    @Test("what was free before is free again, though the guest had it for a moment (F6)")
    func failingWithAFreeOne() async throws {
        let bench = try await bench()
        #expect(try await bench.detach("emu-disk").state == .succeeded)
        bench.source.failOnce(DeviceID("emu-keyboard"), with: USBError(.io, "no luck"))
        #expect(try await bench.finish(focus(bench)).state == .failed)
        #expect(try await holders(bench) == [nil, "web1", "web1"])
        #expect(bench.store.state.loaded.first { $0.guest == "web2" }?.held.isEmpty == true)
        await bench.close()
    }

    @Test("one that is unplugged while it's waited for is nobody's but its guests' afterwards (F5)")
    func unplugged() async throws {
        let bench = try await bench()
        bench.tree.setOpenFiles(1, "1-1", of: "web1")
        let operation = try await focus(bench, deadline: 60)
        try await waits(operation, for: "emu-disk", bench)
        bench.tree.setOpenFiles(0, "1-1", of: "web1")
        try await bench.plane.unplug("emu-disk")
        // It may have found that out itself by now.
        _ = try? await bench.plane.cancelOperation(operation.id)
        _ = try await bench.finish(operation)
        _ = try await bench.plane.plugIn("emu-disk 0525:a4a5")
        while try await bench.state("emu-disk") == .changing { await Task.yield() }
        #expect(try await bench.plane.device("emu-disk").waiting.isEmpty)
        #expect(try await bench.state("emu-disk") == .attached)
        await bench.close()
    }

    @Test("a keyboard that somebody holds isn't taken at once")
    func held() async throws {
        let bench = try await bench()
        _ = try await bench.plane.hold("emu-keyboard", HoldRequest())
        #expect(try await bench.finish(focus(bench)).error?.code == .busy)
        #expect(try await holders(bench) == Self.all("web1"))
        await bench.close()
    }

    @Test("what a guest outside of the set has stays there (F4), what is free goes with the others")
    func outsiders() async throws {
        let bench = try await bench()
        #expect(try await bench.detach("emu-disk").state == .succeeded)
        #expect(try await bench.finish(focus(bench)).state == .succeeded)
        #expect(try await holders(bench) == Self.all("web2"))
        _ = try await bench.detach("emu-keyboard")
        try await bench.attach("emu-keyboard", "web3")
        let info = try await bench.finish(focus(bench, "web1"))
        #expect(info.error?.code == .busy, "\(info)")
        #expect(!info.steps.contains { $0.name.hasPrefix("detached") }, "\(info)")
        #expect(try await holders(bench) == ["web2", "web2", "web3"])
        await bench.close()
    }

    @Test("an interrupt while one is waited for leaves all as it was (F5)")
    func interrupted() async throws {
        let bench = try await bench()
        bench.tree.setOpenFiles(1, "1-2", of: "web1")
        let operation = try await focus(bench, deadline: 60)
        try await waits(operation, for: "emu-disk2", bench)
        _ = try await bench.plane.cancelOperation(operation.id)
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(try await holders(bench) == Self.all("web1"))
        await bench.close()
    }

    @Test("one move waits for the other (F2)")
    func oneAfterTheOther() async throws {
        let bench = try await bench()
        bench.source.holdOpen(DeviceID("emu-disk2"))
        let first = try await focus(bench)
        _ = await bench.source.heldOpens.wait(for: 1)
        let second = try await focus(bench, "web1")
        bench.source.letOpen(DeviceID("emu-disk2"))
        #expect(try await bench.finish(first).state == .succeeded)
        let info = try await bench.finish(second)
        #expect(info.state == .succeeded, "\(info)")
        #expect(info.steps.first?.name == "waiting for operation \(first.id)")
        #expect(try await holders(bench) == Self.all("web1"))
        await bench.close()
    }

    @Test("sets that can't be meant are refused")
    func refusals() async throws {
        let bench = try await bench()
        #expect(await problem { _ = try await focus(bench, "web3") }?.code == .conflict)
        #expect(await problem { _ = try await bench.plane.focus(FocusRequest(guest: "web1", set: "x")) }?.status == 404)
        _ = try await bench.unload("web2")
        #expect(await problem { _ = try await focus(bench, "web2") }?.code == .conflict)
        await bench.close()
        let none = try await self.bench([])
        #expect(await problem { _ = try await focus(none) }?.status == 404)
        await none.close()
    }

    @Test("the chord moves the set of its keyboard, and the guest that loses it sees nothing of the keys")
    func chord() async throws {
        let bench = try await bench()
        try bench.read("1-3", bytes: 8)
        func report(_ key: UInt8) -> [UInt8] { [0, 0, key, 0, 0, 0, 0, 0] }
        let sequence = await bench.lastSequence
        for key: UInt8 in [0x47, 0, 0x47, 0, 0x1f] {
            bench.source.backend(DeviceID("emu-keyboard"))?.held.first?.complete(data: report(key))
        }
        let ended = await bench.event("operation", after: sequence) {
            $0.guest == "web2" && $0.detail?.hasSuffix("succeeded") == true
        }
        #expect(ended?.detail?.hasPrefix("focus") == true)
        #expect(try await holders(bench) == Self.all("web2"))
        #expect(bench.handler.completions.map(\.actualLength) == [0])
        await bench.close()
    }

    @Test("a set that follows goes to the machine that resumes (F8)")
    func following() async throws {
        let bench = try await bench([desk(follows: true)])
        await bench.plane.followFocus(to: "web2")
        _ = await bench.event("switched") { $0.device == "emu-keyboard" }
        #expect(try await holders(bench) == Self.all("web2"))
        await bench.close()
    }
}
