// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

/// Devices that misbehave are kept from all guests (Arbiter.md, X1 to X5).
@Suite(.timeLimit(.minutes(1))) struct QuarantineTests {
    private static let limits: HealthLimits = {
        var limits = HealthLimits.off
        limits.babble = EventLimit(3, in: .seconds(3600))
        limits.disconnects = EventLimit(3, in: .seconds(3600))
        limits.calm = .seconds(3)
        return limits
    }()

    /// `emu-a` with web1 by its declaration, `emu-b` beside it.
    private func bench() async throws -> Bench {
        let bench = try await Bench(health: Self.limits)
        for device in ["emu-a 0525:a4a0", "emu-b 0525:a4a1"] { _ = try await bench.plane.plugIn(device) }
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", devices: ["emu-a", "emu-b"]))
        try await bench.load("web1")
        return bench
    }

    /// As often as is too much.
    private func babble(_ bench: Bench) throws {
        let backend = try #require(bench.source.backend(DeviceID("emu-a")))
        for _ in 0..<3 {
            try bench.read("1-1")
            backend.held.first?.complete(.babble)
        }
    }

    @Test("its guest loses it at once, with what is in flight, and others on the bus keep what they have (X1, X4)")
    func judged() async throws {
        let bench = try await bench()
        try bench.read("1-1")
        try bench.read("1-2")
        try babble(bench)
        let event = await bench.event("device-quarantined")
        #expect(event?.device == "emu-a" && event?.guest == "web1")
        _ = await bench.event("detached") { $0.device == "emu-a" }
        while try await bench.state("emu-a") != .quarantined { await Task.yield() }
        let device = try await bench.plane.device("emu-a")
        #expect(device.reason == event?.detail && device.reason?.contains("3") == true)
        #expect(device.attachment == nil)
        #expect(try await bench.state("emu-b") == .attached)
        #expect(bench.tree.guests["web1"]?.attachments.count == 1)
        let refused = await problem { _ = try await bench.plane.attach("emu-a", AttachRequest(guest: "web1")) }
        #expect(refused?.detail.contains("quarantined") == true)
        #expect(try await bench.plane.explainClaims(on: "emu-a").reason.contains("quarantined"))
        await bench.close()
    }

    @Test("trusted again, it's its guest's (X5)")
    func trusted() async throws {
        let bench = try await bench()
        #expect(await problem { _ = try await bench.plane.trust("emu-a") }?.code == .conflict)
        try babble(bench)
        while try await bench.state("emu-a") != .quarantined { await Task.yield() }
        let sequence = await bench.lastSequence
        #expect(try await bench.plane.trust("emu-a").reason == nil)
        _ = await bench.event("attached", after: sequence) { $0.device == "emu-a" }
        await bench.close()
    }

    @Test("a detach that waits for it doesn't give it back (X2)")
    func judgedWhileWaitedFor() async throws {
        let bench = try await bench()
        _ = try await bench.plane.hold("emu-a", HoldRequest())
        let detach = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: 60))
        try babble(bench)
        _ = await bench.event("device-quarantined")
        _ = try await bench.finish(detach)
        while try await bench.state("emu-a") != .quarantined { await Task.yield() }
        #expect(bench.tree.guests["web1"]?.attachments.count == 1)
        await bench.close()
    }

    @Test("plugged in anew, it's its guest's (X5)")
    func replugged() async throws {
        let bench = try await bench()
        try babble(bench)
        while try await bench.state("emu-a") != .quarantined { await Task.yield() }
        let sequence = await bench.lastSequence
        try await bench.plane.unplug("emu-a")
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = await bench.event("attached", after: sequence) { $0.device == "emu-a" }
        await bench.close()
    }

    @Test("who waits for it waits on, and has it once it's trusted (X4)")
    func waiting() async throws {
        let bench = try await bench()
        _ = try await bench.plane.addGuest(GuestSpec(name: "web2"))
        try await bench.load("web2")
        let operation = try await bench.plane.requestDevice("emu-a", AttachRequest(guest: "web2"))
        try babble(bench)
        while try await bench.state("emu-a") != .quarantined { await Task.yield() }
        #expect(try await bench.plane.operation(operation.id, waitSeconds: 0, afterSteps: nil).state == .running)
        _ = try await bench.plane.trust("emu-a")
        #expect(try await bench.finish(operation).attachment?.guest == "web2")
        await bench.close()
    }

    @Test("a port where devices come and go without end is left alone until it's quiet (X3, X5)")
    func storm() async throws {
        let bench = try await bench()
        for _ in 0..<3 {
            try await bench.plane.unplug("emu-a")
            _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        }
        #expect(try await bench.state("emu-a") == .quarantined)
        #expect(try await bench.state("emu-b") == .attached)
        let sequence = await bench.lastSequence
        _ = await bench.event("device-trusted", after: sequence)
        _ = await bench.event("attached", after: sequence) { $0.device == "emu-a" }
        #expect(try await bench.state("emu-a") == .attached)
        await bench.close()
    }
}
