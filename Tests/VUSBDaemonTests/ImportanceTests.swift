// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

/// Guests of different importance, and their limits (Arbiter.md; the rules are in Scheduling.md of VUSBCore).
@Suite(.timeLimit(.minutes(1))) struct ImportanceTests {
    private static let window = 64 << 10

    private func bench(_ first: GuestSpec, _ second: GuestSpec) async throws -> Bench {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0", "emu-b 0525:a4a0"], guests: [first, second])
        try await bench.attach("emu-a", first.name)
        try await bench.attach("emu-b", second.name)
        return bench
    }

    /// How many URBs of the device have been held back so far. What a device doesn't answer for some milliseconds is
    /// parked, so how many are held back now depends on the time that a test takes.
    private func held(_ device: String, _ bench: Bench) async -> UInt64? {
        await bench.plane.deviceRegistry[DeviceID(device)]?.attachment?.lane.status.heldTotal
    }

    private func priority(_ device: String, _ bench: Bench) async -> Int? {
        await bench.plane.deviceRegistry[DeviceID(device)]?.attachment?.lane.priority
    }

    @Test func theLessImportantGuestKeepsToTheWindow() async throws {
        let bench = try await bench(GuestSpec(name: "web1", priority: 90), GuestSpec(name: "web2", priority: 10))
        for _ in 0..<20 { try bench.read("1-1", of: "web2", bytes: Self.window) }
        #expect(await held("emu-b", bench) ?? 0 > 0)
        // The important one has as much in flight as it likes.
        for _ in 0..<20 { try bench.read("1-1", of: "web1", bytes: Self.window / 20) }
        #expect(await held("emu-a", bench) == 0)
        await bench.close()
    }

    @Test func guestsOfOnePriorityHaveNoWindow() async throws {
        let bench = try await bench(GuestSpec(name: "web1"), GuestSpec(name: "web2"))
        for _ in 0..<20 { try bench.read("1-1", of: "web2", bytes: Self.window) }
        #expect(await held("emu-b", bench) == 0)
        await bench.close()
    }

    @Test func aHolderHasThePriorityOfWhoWaitsForItsDevice() async throws {
        let bench = try await bench(GuestSpec(name: "web1", priority: 90), GuestSpec(name: "web2", priority: 10))
        #expect(await priority("emu-b", bench) == 10)
        let request = try await bench.plane.requestDevice("emu-b", AttachRequest(guest: "web1"))
        #expect(await priority("emu-b", bench) == 90)
        _ = try await bench.plane.cancelOperation(request.id)
        _ = try await bench.finish(request)
        #expect(await priority("emu-b", bench) == 10)
        await bench.close()
    }

    @Test func urbsBeyondAGuestsLimitWait() async throws {
        let bench = try await bench(GuestSpec(name: "web1", maxURBs: 2), GuestSpec(name: "web2"))
        for _ in 0..<20 { try bench.read("1-1", of: "web1") }
        #expect(await held("emu-a", bench) ?? 0 > 0)
        await bench.close()
    }

    @Test func aDeviceBeyondAGuestsLimitIsRefused() async throws {
        let bench = try await bench(GuestSpec(name: "web1", maxDevices: 1), GuestSpec(name: "web2"))
        #expect(try await bench.detach("emu-b").state == .succeeded)
        let info = try await bench.finish(bench.plane.attach("emu-b", AttachRequest(guest: "web1")))
        #expect(info.error?.detail == "guest web1 has 1 device, as many as it may have")
        await bench.close()
    }

    @Test func aGuestAtItsLimitGetsTheNextWhenOneHasGone() async throws {
        let bench = try await Bench.loaded(
            [], guests: [GuestSpec(name: "web1", maxDevices: 1, devices: ["0525:a4a0"])])
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = await bench.event("attached") { $0.device == "emu-a" }
        _ = try await bench.plane.plugIn("emu-b 0525:a4a0")
        _ = await bench.event("attach-failed") { $0.device == "emu-b" }
        let reason = try await bench.plane.explainClaims(on: "emu-b").reason
        #expect(reason.contains("it waits until guest web1 has less than 1"))
        try bench.source.pullOut(DeviceID("emu-a"))
        #expect(await bench.event("attached") { $0.device == "emu-b" }?.guest == "web1")
        await bench.close()
    }
}
