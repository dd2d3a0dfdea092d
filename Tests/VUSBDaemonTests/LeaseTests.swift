// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

/// Guests that have promised to be heard of (Arbiter.md, L5 and L6).
@Suite(.timeLimit(.minutes(1))) struct LeaseTests {
    /// `emu-a` with web1, which has a heartbeat of 1,000 s; web2 is the next one in the claim.
    private func bench(failBack: ClaimSpec.FailBack? = nil) async throws -> Bench {
        let bench = try await Bench()
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = try await bench.plane.addClaim(
            ClaimSpec(name: "a", match: ["product=0525:a4a0"], guests: ["web1", "web2"], failBack: failBack))
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1", heartbeatSeconds: 1000))
        _ = try await bench.plane.addGuest(GuestSpec(name: "web2"))
        try await bench.load("web1")
        try await bench.load("web2")
        _ = await bench.event("attached") { $0.guest == "web1" }
        return bench
    }

    private func look(_ bench: Bench, after seconds: Int, late: Bool = false) async {
        await bench.plane.look(at: .now + .seconds(seconds), late: late)
    }

    private func holder(_ bench: Bench) async throws -> String? {
        try await bench.plane.device("emu-a").attachment?.guest
    }

    private func isSilent(_ bench: Bench) async throws -> Bool { try await bench.plane.guest("web1").silent }

    @Test("who writes in time keeps all")
    func alive() async throws {
        let bench = try await bench()
        await look(bench, after: 900)
        #expect(try await !isSilent(bench))
        bench.tree.beat("web1", at: .now + .seconds(800))
        await look(bench, after: 1700)
        #expect(try await !isSilent(bench))
        #expect(try await holder(bench) == "web1")
        await bench.close()
    }

    @Test("what a silent guest had goes to the next one, though it's in use (L5)")
    func silent() async throws {
        let bench = try await bench()
        try bench.read("1-1")
        await look(bench, after: 1100)
        #expect(await bench.event("guest-silent")?.guest == "web1")
        _ = await bench.event("attached") { $0.guest == "web2" }
        #expect(try await holder(bench) == "web2")
        #expect(try await isSilent(bench))
        #expect(try await bench.state(of: "web1") == .loaded)
        let refused = await problem { _ = try await bench.plane.switchDevice("emu-a", SwitchRequest(guest: "web1")) }
        #expect(refused?.code == .conflict)
        await bench.close()
    }

    @Test("one that is heard again has its devices as fail-back says (L6)", arguments: ClaimSpec.FailBack.allCases)
    func heard(failBack: ClaimSpec.FailBack) async throws {
        let bench = try await bench(failBack: failBack)
        await look(bench, after: 1100)
        _ = await bench.event("attached") { $0.guest == "web2" }
        let sequence = await bench.lastSequence
        bench.tree.beat("web1", at: .now + .seconds(1200))
        _ = await bench.event("guest-heard", after: sequence)
        #expect(try await !isSilent(bench))
        if failBack == .never {
            #expect(try await holder(bench) == "web2")
        } else {
            _ = await bench.event("switched", after: sequence) { $0.guest == "web1" }
            #expect(try await holder(bench) == "web1")
        }
        await bench.close()
    }

    @Test("without another guest the device is free, and the guest's again when it's heard (L6)")
    func alone() async throws {
        let bench = try await bench()
        _ = try await bench.unload("web2")
        await look(bench, after: 1100)
        _ = await bench.event("detached") { $0.guest == "web1" }
        while try await bench.state("emu-a") != .available { await Task.yield() }
        let sequence = await bench.lastSequence
        bench.tree.beat("web1", at: .now + .seconds(1200))
        _ = await bench.event("attached", after: sequence) { $0.guest == "web1" }
        #expect(try await holder(bench) == "web1")
        await bench.close()
    }

    @Test("what an operation was at when the guest fell silent is taken at the next look (L5)")
    func silentWhileWaitedFor() async throws {
        let bench = try await bench()
        _ = try await bench.plane.hold("emu-a", HoldRequest())
        let detach = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: 60))
        await look(bench, after: 1100)
        #expect(try await holder(bench) == "web1")
        _ = try await bench.plane.cancelOperation(detach.id)
        _ = try await bench.finish(detach)
        await look(bench, after: 1101)
        _ = await bench.event("attached") { $0.guest == "web2" }
        #expect(try await holder(bench) == "web2")
        await bench.close()
    }

    @Test("a beat that nobody told of counts at the next look (L6)")
    func untold() async throws {
        let bench = try await bench(failBack: .now)
        await look(bench, after: 1100)
        _ = await bench.event("attached") { $0.guest == "web2" }
        bench.tree.beat("web1", at: .now + .seconds(1), isTold: false)
        await look(bench, after: 2)
        _ = await bench.event("switched") { $0.guest == "web1" }
        #expect(try await !isSilent(bench))
        await bench.close()
    }

    @Test("while vusbd didn't run nobody was silent")
    func late() async throws {
        let bench = try await bench()
        await look(bench, after: 10_000, late: true)
        #expect(try await !isSilent(bench))
        #expect(try await holder(bench) == "web1")
        await bench.close()
    }

    @Test("a machine's life is known otherwise: it has no heartbeat")
    func machines() async {
        let specification = GuestSpec(name: "vm1", connector: "qemu", qmp: "/run/qmp", heartbeatSeconds: 10)
        let refused = await problem { _ = try GuestDefinition(specification, connectors: ["local", "qemu"]) }
        #expect(refused?.detail.contains("heartbeat") == true)
    }
}
