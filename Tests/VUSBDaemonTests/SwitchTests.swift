// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

/// Devices go from one guest to another (Arbiter.md, B1 to B7 and W1 to W7).
@Suite(.timeLimit(.minutes(1))) struct SwitchTests {
    private func bench(_ priorities: [Int] = [50, 50, 50]) async throws -> Bench {
        let guests = priorities.enumerated().map { GuestSpec(name: "web\($0.offset + 1)", priority: $0.element) }
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"], guests: guests)
        try await bench.attach("emu-a", "web1")
        return bench
    }

    private func holder(_ bench: Bench) async throws -> String? {
        try await bench.plane.device("emu-a").attachment?.guest
    }

    private func step(_ operation: Int, _ text: String, _ bench: Bench) async throws {
        var info = try await bench.plane.operation(operation, waitSeconds: 0, afterSteps: nil)
        while !info.steps.contains(where: { $0.name.contains(text) }), info.state == .running {
            info = try await bench.plane.operation(operation, waitSeconds: 60, afterSteps: info.steps.count)
        }
        #expect(info.steps.contains { $0.name.contains(text) }, "\(info)")
    }

    private func isConflict(_ error: any Error) -> Bool { (error as? Problem)?.status == 409 }

    private func begin(
        _ bench: Bench, to guest: String, deadline: Double = 0, _ onDeadline: ReleaseRequest.OnDeadline? = nil
    ) async throws -> OperationInfo {
        let request = SwitchRequest(guest: guest, deadlineSeconds: deadline, onDeadline: onDeadline)
        return try await bench.plane.switchDevice("emu-a", request)
    }

    /// W4 to W7
    @Test func aDeviceThatNobodyUsesIsResetAndGoesOver() async throws {
        let bench = try await bench()
        let info = try await bench.finish(begin(bench, to: "web2"))
        #expect(info.state == .succeeded, "\(info)")
        #expect(info.attachment?.guest == "web2")
        #expect(try await holder(bench) == "web2")
        #expect(bench.source.closedBackends.count == 1)
        #expect(bench.source.doubleOpens == 0)
        let event = await bench.event("switched")
        #expect(event?.detail?.hasPrefix("from web1 in ") == true)
        await bench.close()
    }

    /// B7, W4: refused, and all is as before.
    @Test func aDeviceWithAURBInFlightIsRefusedAtTheDeadline() async throws {
        let bench = try await bench()
        try bench.read("1-1")
        let info = try await bench.finish(begin(bench, to: "web2"))
        #expect(info.state == .failed)
        #expect(info.error?.code == .busy)
        #expect(try await holder(bench) == "web1")
        #expect(try await bench.plane.device("emu-a").attachment?.busy == ["1 URB in flight"])
        await bench.close()
    }

    /// B3: an open file is use, whatever is in flight; what unloads and detaches heeds it, too.
    @Test func aDeviceWhoseFileIsOpenIsRefusedAtTheDeadline() async throws {
        let bench = try await bench()
        bench.tree.setOpenFiles(2, "1-1", of: "web1")
        let refused = [
            try await bench.finish(begin(bench, to: "web2")), try await bench.detach("emu-a"),
            try await bench.unload("web1"),
        ]
        for info in refused {
            #expect(info.error?.code == .busy)
            #expect(info.error?.detail.hasSuffix("2 endpoint files are open") == true, "\(info)")
        }
        #expect(try await bench.plane.device("emu-a").attachment?.busy == ["2 endpoint files are open"])
        bench.tree.setOpenFiles(0, "1-1", of: "web1")
        #expect(try await bench.finish(begin(bench, to: "web2")).state == .succeeded)
        await bench.close()
    }

    /// B7, W5
    @Test func withCancelItIsTakenAllTheSame() async throws {
        let bench = try await bench()
        try bench.read("1-1")
        #expect(try await bench.finish(begin(bench, to: "web2", .cancel)).state == .succeeded)
        #expect(try await holder(bench) == "web2")
        await bench.close()
    }

    /// B1, W3: waits without a bound, and goes on when the hold ends.
    @Test func withWaitItGoesOverWhenTheHoldEnds() async throws {
        let bench = try await bench()
        _ = try await bench.plane.hold("emu-a", HoldRequest(reason: "flashing"))
        let operation = try await begin(bench, to: "web2", .wait)
        try await step(operation.id, "somebody holds it: flashing", bench)
        #expect(try await bench.plane.device("emu-a").waiting == ["web2"])
        try await bench.plane.endHold("emu-a")
        #expect(try await bench.finish(operation).state == .succeeded)
        #expect(try await holder(bench) == "web2")
        #expect(try await bench.plane.device("emu-a").waiting.isEmpty)
        await bench.close()
    }

    /// W3, cancelled
    @Test func givingUpTheWaitLeavesAllAsItWas() async throws {
        let bench = try await bench()
        _ = try await bench.plane.hold("emu-a", HoldRequest())
        let operation = try await begin(bench, to: "web2", .wait)
        try await step(operation.id, "somebody holds it", bench)
        _ = try await bench.plane.cancelOperation(operation.id)
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(try await holder(bench) == "web1")
        let device = try await bench.plane.device("emu-a")
        #expect(device.state == .attached)
        #expect(device.waiting.isEmpty)
        await bench.close()
    }

    /// B1: a hold ends by itself.
    @Test func aHoldEndsByItself() async throws {
        let bench = try await bench()
        _ = try await bench.plane.hold("emu-a", HoldRequest(seconds: 0.05))
        #expect(try await bench.finish(begin(bench, to: "web2", .wait)).state == .succeeded)
        await #expect { try await bench.plane.endHold("emu-a") } throws: { isConflict($0) }
        await bench.close()
    }

    /// W6: what can't be opened for the new one is the old one's again.
    @Test func aDeviceThatCannotBeOpenedIsGivenBack() async throws {
        let bench = try await bench()
        bench.source.failOnce(DeviceID("emu-a"), with: USBError(.io, "no luck"))
        let info = try await bench.finish(begin(bench, to: "web2"))
        #expect(info.state == .failed)
        #expect(info.error?.detail.contains("no luck") == true)
        #expect(try await holder(bench) == "web1")
        await bench.close()
    }

    /// W2: the holder is asked once, and has the device until it gives it back.
    @Test func aRequestAsksTheHolderAndGetsWhatItGivesBack() async throws {
        let bench = try await bench()
        let operation = try await bench.plane.requestDevice("emu-a", AttachRequest(guest: "web2"))
        let event = await bench.event("device-requested")
        #expect(event?.guest == "web1")
        #expect(try await holder(bench) == "web1")
        #expect(try await bench.detach("emu-a").state == .succeeded)
        let info = try await bench.finish(operation)
        #expect(info.attachment?.guest == "web2")
        let lines = bench.tree.guests["web1"]?.lines ?? []
        #expect(lines.filter { $0.contains("device-requested") }.count == 1)
        #expect(!lines.contains { $0.contains("web2") })
        await bench.close()
    }

    /// W1: the more important guest first, then who came first.
    @Test func theQueueGoesByPriorityAndThenByTime() async throws {
        let bench = try await bench([50, 10, 10, 90])
        var operations: [OperationInfo] = []
        for guest in ["web2", "web3", "web4"] {
            operations.append(try await bench.plane.requestDevice("emu-a", AttachRequest(guest: guest)))
        }
        #expect(try await bench.plane.device("emu-a").waiting == ["web4", "web2", "web3"])
        for (guest, index) in [("web4", 2), ("web2", 0), ("web3", 1)] {
            #expect(try await bench.detach("emu-a").state == .succeeded)
            #expect(try await bench.finish(operations[index]).state == .succeeded)
            #expect(try await holder(bench) == guest)
        }
        await bench.close()
    }

    /// W1: a guest that is lost while it waits gets nothing, and the next one is first.
    @Test func aGuestThatIsUnloadedLeavesTheQueue() async throws {
        let bench = try await bench()
        let lost = try await bench.plane.requestDevice("emu-a", AttachRequest(guest: "web2"))
        let next = try await bench.plane.requestDevice("emu-a", AttachRequest(guest: "web3"))
        #expect(try await bench.unload("web2").state == .succeeded)
        #expect(try await bench.finish(lost).state == .failed)
        #expect(try await bench.unload("web1").state == .succeeded)
        #expect(try await bench.finish(next).attachment?.guest == "web3")
        await bench.close()
    }

    /// W1: it comes back, and whoever waits for it gets it.
    @Test func aRequestWaitsForADeviceThatWasUnplugged() async throws {
        let bench = try await bench()
        let operation = try await bench.plane.requestDevice("emu-a", AttachRequest(guest: "web2"))
        _ = await bench.event("device-requested")
        try await bench.plane.pullOut(DeviceID("emu-a"))
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        #expect(try await bench.finish(operation).attachment?.guest == "web2")
        await bench.close()
    }

    /// W1: a second switch waits for the first, and takes the device from whom that gave it to.
    @Test func switchesOfOneDeviceFollowEachOther() async throws {
        let bench = try await bench()
        let first = try await begin(bench, to: "web2", deadline: 60)
        let second = try await begin(bench, to: "web3", deadline: 60)
        #expect(try await bench.finish(first).attachment?.guest == "web2")
        #expect(try await bench.finish(second).attachment?.guest == "web3")
        #expect(bench.source.doubleOpens == 0)
        await bench.close()
    }

    /// B7, W4 back to W2: between two tries the guest has the device, others may take it, and whoever waits may give up.
    @Test func withWaitAGuestWithAURBInFlightKeepsTheDevice() async throws {
        let bench = try await bench()
        try bench.read("1-1")
        let operation = try await begin(bench, to: "web2", .wait)
        try await step(operation.id, "1 URB in flight", bench)
        #expect(try await bench.plane.device("emu-a").state == .attached)
        #expect(try await bench.unload("web1", .cancel).state == .succeeded)
        #expect(try await bench.finish(operation).attachment?.guest == "web2")
        await bench.close()
    }

    /// W2, W3: the target is unloaded while its switch waits.
    @Test(arguments: [ReleaseRequest.OnDeadline.wait, .refuse, .cancel])
    func aTargetThatIsUnloadedLeavesTheDeviceWithItsHolder(onDeadline: ReleaseRequest.OnDeadline) async throws {
        let bench = try await bench()
        _ = try await bench.plane.hold("emu-a", HoldRequest())
        let operation = try await begin(bench, to: "web2", deadline: 60, onDeadline)
        try await step(operation.id, "somebody holds it", bench)
        #expect(try await bench.unload("web2").state == .succeeded)
        let info = try await bench.finish(operation)
        #expect(info.error?.detail == "guest web2 isn't loaded", "\(info)")
        #expect(try await holder(bench) == "web1")
        #expect(try await bench.plane.device("emu-a").state == .attached)
        #expect(bench.source.closedBackends.isEmpty)
        await bench.close()
    }

    /// W1: what waits for a device isn't given another one that comes to its port.
    @Test func anotherDeviceOnThePortIsNotTheOneThatIsWaitedFor() async throws {
        let bench = try await bench()
        let operation = try await bench.plane.requestDevice("emu-a", AttachRequest(guest: "web2"))
        _ = await bench.event("device-requested")
        try await bench.plane.pullOut(DeviceID("emu-a"))
        _ = try await bench.plane.plugIn("emu-a 0951:1666")
        try await step(operation.id, "which isn't there", bench)
        #expect(try await holder(bench) == nil)
        try await bench.plane.pullOut(DeviceID("emu-a"))
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        #expect(try await bench.finish(operation).attachment?.guest == "web2")
        await bench.close()
    }

    /// W7: while it's being saved that B has it, B may lose it again; nothing of the device is the switch's any more.
    @Test func aDeviceThatIsTakenWhileTheSwitchIsSavedIsFree() async throws {
        let store = MemoryStore()
        let bench = try await Bench(store: store)
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        for guest in ["web1", "web2"] {
            _ = try await bench.plane.addGuest(GuestSpec(name: guest))
            try await bench.load(guest)
        }
        try await bench.attach("emu-a", "web1")
        store.holdSaves()
        let operation = try await begin(bench, to: "web2")
        await store.heldSaves.wait(for: 1)
        let detach = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: 0, onDeadline: .cancel))
        await store.heldSaves.wait(for: 2)
        store.letSave()
        #expect(try await bench.finish(detach).state == .succeeded)
        _ = try await bench.finish(operation)
        #expect(try await bench.plane.device("emu-a").state == .available)
        await bench.close()
    }

    @Test func whatMakesNoSenseIsRefused() async throws {
        let bench = try await bench()
        await #expect { _ = try await begin(bench, to: "web1") } throws: { isConflict($0) }
        await #expect { _ = try await begin(bench, to: "web9") } throws: { ($0 as? Problem)?.status == 404 }
        await #expect { try await bench.plane.endHold("emu-a") } throws: { isConflict($0) }
        #expect(try await bench.detach("emu-a").state == .succeeded)
        await #expect { _ = try await bench.plane.hold("emu-a", HoldRequest()) } throws: { isConflict($0) }
        await bench.close()
    }
}
