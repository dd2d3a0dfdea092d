// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

@Suite(.timeLimit(.minutes(1))) struct DetachTests {
    @Test func anIdleDeviceIsResetAndGivenBack() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        let info = try await bench.detach("emu-a")
        #expect(info.state == .succeeded)
        #expect(info.steps.map(\.name) == ["draining", "drained", "reset emu-a", "detached emu-a"])
        #expect(bench.source.closedBackends.map(\.resets) == [1])
        #expect(try await bench.state("emu-a") == .available)
        let again = await problem { _ = try await bench.plane.detach("emu-a", ReleaseRequest()) }
        #expect(again?.code == .conflict)
        await bench.close()
    }

    @Test func aBlockedReadRefusesTheDetachAndLeavesAllAsItWas() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        let info = try await bench.detach("emu-a")
        #expect(info.state == .failed)
        #expect(info.error?.code == .busy)
        #expect(
            info.error?.detail == "device emu-a of guest web1 has 1 URB in flight after 0.0 s")
        #expect(try await bench.state("emu-a") == .attached)
        #expect(bench.tree.guests["web1"]?.attachments["1-1"]?.device.admission == .admitting)
        #expect(bench.source.backend(DeviceID("emu-a"))?.held.count == 1)
        await bench.close()
    }

    @Test func aBlockedReadIsCancelledWhereAskedFor() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        let info = try await bench.detach("emu-a", .cancel)
        #expect(info.state == .succeeded)
        #expect(await bench.handler.wait(for: 1).first?.status == .cancelled)
        await bench.close()
    }

    @Test func aDetachThatWaitsIsCancelledAtOnceAndTheReadGoesOn() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        let operation = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: 3600))
        let waiting = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 0)
        #expect(waiting.steps.map(\.name) == ["draining"])
        _ = try await bench.plane.cancelOperation(operation.id)
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(try await bench.state("emu-a") == .attached)
        #expect(bench.source.backend(DeviceID("emu-a"))?.held.count == 1)
        await bench.close()
    }

    @Test func theLastURBsEndEndsTheWait() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        let operation = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: 3600))
        bench.source.backend(DeviceID("emu-a"))?.held.first?.complete(data: [1, 2, 3])
        #expect(try await bench.finish(operation).state == .succeeded)
        #expect(await bench.handler.wait(for: 1).first?.bytes == [1, 2, 3])
        await bench.close()
    }

    @Test func anUnplugWhileAReadIsInFlightEndsItAndTheAttachment() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        try await bench.plane.unplug("emu-a")
        #expect(await bench.handler.wait(for: 1).count == 1)
        #expect(bench.tree.guests["web1"]?.attachments.isEmpty == true)
        #expect(bench.tree.hosts.isEmpty)
        #expect(await bench.event("detached")?.detail == "unplugged")
        await bench.close()
    }

    @Test func anUnplugDuringTheDrainEndsTheDetach() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        let operation = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: 3600))
        try await bench.plane.unplug("emu-a")
        #expect(try await bench.finish(operation).state == .succeeded)
        #expect(bench.source.closedBackends.map(\.resets) == [0])
        await bench.close()
    }

    @Test func aDeviceThatIsGoneAfterItsResetIsDetachedAllTheSame() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        bench.source.failReset(DeviceID("emu-a"), with: USBError(.gone, "came back as another one"))
        try await bench.attach("emu-a")
        let info = try await bench.detach("emu-a")
        #expect(info.state == .succeeded)
        #expect(info.steps.contains { $0.name == "reset of emu-a failed: came back as another one" })
        await bench.close()
    }

    @Test func aDeviceThatIsPluggedInAgainComesBackUnderItsNumbers() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0 S1", "emu-b 0525:a4a0 S2"])
        try await bench.attach("emu-a")
        try await bench.attach("emu-b")
        try await bench.plane.unplug("emu-a")
        let before = await bench.lastSequence
        // Another port, the same serial.
        _ = try await bench.plane.plugIn("emu-z 0525:a4a0 S1")
        let attached = await bench.event("attached", after: before)
        #expect(attached?.device == "emu-z")
        #expect(attached?.path == "1-1")
        await bench.close()
    }

    @Test func aDeviceDetachedByHandStaysAwayUntilItIsPluggedInAnew() async throws {
        let bench = try await Bench.loaded(
            ["emu-a 0525:a4a0"], guests: [GuestSpec(name: "web1", devices: ["0525:a4a0"])])
        #expect(try await bench.state("emu-a") == .attached)
        _ = try await bench.detach("emu-a")
        #expect(bench.store.state.loaded.first?.released.map(\.id) == ["emu-a"])
        #expect(bench.store.state.loaded.first?.held.isEmpty == true)
        try await bench.plane.unplug("emu-a")
        let before = await bench.lastSequence
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        #expect(await bench.event("attached", after: before)?.path == "1-1")
        await bench.close()
    }

    @Test(arguments: [-1, 3600.5, .infinity, -.infinity, .nan]) func anImpossibleDeadlineIsMalformed(seconds: Double)
        async throws
    {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        let problem = await problem {
            _ = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: seconds))
        }
        #expect(problem?.code == .malformed)
        #expect(try await bench.state("emu-a") == .attached)
        await bench.close()
    }
}
