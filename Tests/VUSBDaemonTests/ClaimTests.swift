// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBVMM

@testable import VUSBDaemon

/// Claims (Arbiter.md, C1 to C5).
@Suite(.timeLimit(.minutes(1))) struct ClaimTests {
    private func claim(
        _ name: String, _ match: [String], except: [String] = [], _ guests: [String],
        failBack: ClaimSpec.FailBack? = nil
    ) -> ClaimSpec {
        ClaimSpec(name: name, match: match, except: except, guests: guests, failBack: failBack)
    }

    private func attached(_ bench: Bench, _ device: String, to guest: String) async {
        _ = await bench.event("attached") { $0.guest == guest && $0.device == device }
    }

    // MARK: - Terms

    @Test func termsFitWhatTheySay() throws {
        let record = TestSource.record("1-2.3", 0x0951, 0x1666, serial: "ABC")
        let fitting = [
            "serial=ABC", "product=0951:1666", "product=0951", "port=1-2.3", "port=1-2.*", "class=ff", "interface=ff",
        ]
        let others = [
            "serial=AB", "product=0951:1667", "product=0952", "port=1-2", "port=1-2.3.*", "port=1.*", "class=08",
            "interface=08:06", "source=libusb",
        ]
        for text in fitting { #expect(try DeviceTerm(text).fits(record), "\(text)") }
        for text in others { #expect(try !DeviceTerm(text).fits(record), "\(text)") }
    }

    @Test(arguments: [
        "", "serial", "serial=", "colour=red", "product=951:1666", "product=0951:", "product=0951:1666:1", "port=",
        "port=1-2/3", "port=.*", "class=8", "class=0x", "interface=", "interface=03:01:01:01", "source=usb",
    ])
    func whatIsNoTermIsRefusedWithARemedy(_ text: String) {
        #expect { _ = try DeviceTerm(text) } throws: { error in
            guard let problem = error as? Problem else { return false }
            return problem.code == .malformed && problem.remedy != nil
        }
    }

    @Test func oneTermCoversAnotherWhereItFitsAllThatThatFits() throws {
        let pairs = [
            ("product=0951", "product=0951:1666"), ("port=1-2.*", "port=1-2.3"), ("port=1-2.*", "port=1-2.3.*"),
            ("class=03", "interface=03:01"), ("interface=03", "interface=03:01:02"), ("serial=a", "serial=a"),
        ]
        for (wide, narrow) in pairs {
            #expect(try DeviceTerm(wide).covers(DeviceTerm(narrow)), "\(wide) \(narrow)")
            guard wide != narrow else { continue }
            #expect(try !DeviceTerm(narrow).covers(DeviceTerm(wide)), "\(narrow) \(wide)")
        }
    }

    // MARK: - The table

    @Test func aClaimThatCanNeverDecideIsRefusedAndTheEarlierOneNamed() async throws {
        let bench = try await Bench.loaded([])
        _ = try await bench.plane.addClaim(claim("vendor", ["product=0951"], except: ["port=1-1"], ["web1"]))
        await #expect {
            _ = try await bench.plane.addClaim(claim("stick", ["product=0951:1666"], except: ["port=1-1"], ["web1"]))
        } throws: { ($0 as? Problem)?.detail.contains("claim vendor") == true }
        // At port 1-1 it decides.
        _ = try await bench.plane.addClaim(claim("other", ["product=0951:1666"], ["web1"]))
        #expect(await bench.plane.claims().map(\.name) == ["vendor", "other"])
        await bench.close()
    }

    /// C2
    @Test func theFirstClaimThatFitsDecides() async throws {
        let guests = [GuestSpec(name: "web1"), GuestSpec(name: "web2")]
        let bench = try await Bench.loaded([], guests: guests)
        _ = try await bench.plane.addClaim(claim("port", ["port=emu-a"], ["web2"]))
        _ = try await bench.plane.addClaim(claim("product", ["product=0525:a4a0"], ["web1"]))
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = try await bench.plane.plugIn("emu-b 0525:a4a0")
        await attached(bench, "emu-a", to: "web2")
        await attached(bench, "emu-b", to: "web1")
        let explanation = try await bench.plane.explainClaims(on: "emu-a")
        #expect(explanation.row == "C2")
        #expect(explanation.heir == "web2")
        #expect(explanation.claims.map(\.fits) == [true, true])
        #expect(explanation.claims.map(\.decides) == [true, false])
        #expect(explanation.claims[1].reason == "claim port comes first")
        await bench.close()
    }

    /// C2
    @Test func aClaimThatIsAddedGivesWhatIsFreeAndTakesNothing() async throws {
        let guests = [GuestSpec(name: "web1"), GuestSpec(name: "web2")]
        let bench = try await Bench.loaded(["emu-a 0525:a4a0", "emu-b 0525:a4a0"], guests: guests)
        try await bench.attach("emu-a", "web1")
        _ = try await bench.plane.addClaim(claim("all", ["product=0525"], ["web2"]))
        await attached(bench, "emu-b", to: "web2")
        #expect(try await bench.plane.device("emu-a").attachment?.guest == "web1")
        await bench.close()
    }

    /// C2: whatever else it says of itself, the board at that port is the guest's.
    @Test func aClaimByPortHoldsThroughAnotherProduct() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        _ = try await bench.plane.addClaim(claim("board", ["port=emu-a"], ["web1"]))
        await attached(bench, "emu-a", to: "web1")
        for product in ["0483:df11", "0525:a4a0", "0483:df11"] {
            let before = await bench.lastSequence
            try bench.source.pullOut(DeviceID("emu-a"))
            _ = try await bench.plane.plugIn("emu-a \(product)")
            _ = await bench.event("attached", after: before) { $0.device == "emu-a" }
        }
        #expect(try await bench.plane.device("emu-a").attachment?.guest == "web1")
        await bench.close()
    }

    /// C2: succession.
    @Test func theNextGuestOfTheClaimGetsWhatAnUnloadedOneHad() async throws {
        let guests = [GuestSpec(name: "web1"), GuestSpec(name: "web2")]
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"], guests: guests)
        _ = try await bench.plane.addClaim(claim("all", ["product=0525"], ["web1", "web2"]))
        await attached(bench, "emu-a", to: "web1")
        #expect(try await bench.unload("web1").state == .succeeded)
        await attached(bench, "emu-a", to: "web2")
        // Never: it stays there.
        try await bench.load("web1")
        #expect(await bench.plane.operations().allSatisfy { $0.kind != "switch" })
        #expect(try await bench.plane.device("emu-a").attachment?.guest == "web2")
        await bench.close()
    }

    /// C2: the guest whose machine is off is passed over.
    @Test func theNextGuestOfTheClaimGetsWhatALostMachineHad() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(["emu-a 0525:a4a0"])
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        try await bench.load("web1")
        _ = try await bench.plane.addClaim(claim("all", ["product=0525"], ["vm1", "web1"], failBack: .idle))
        await attached(bench, "emu-a", to: "vm1")
        bench.turnOff(machine, .panicked)
        await attached(bench, "emu-a", to: "web1")
        // Idle: it's given back once the machine is there again.
        let before = await bench.lastSequence
        bench.start(machine)
        _ = await bench.event("attached", after: before) { $0.guest == "vm1" }
        await bench.close()
    }

    /// C3 is the claim's: where that goes, another one decides.
    @Test func whatWasTakenByHandGoesToTheNextClaimsGuest() async throws {
        let bench = try await Bench.loaded(
            ["emu-a 0525:a4a0"], guests: [GuestSpec(name: "web1"), GuestSpec(name: "web2")])
        _ = try await bench.plane.addClaim(claim("first", ["product=0525:a4a0"], ["web1"]))
        await attached(bench, "emu-a", to: "web1")
        _ = try await bench.plane.addClaim(claim("second", ["class=ff"], ["web2"]))
        _ = try await bench.detach("emu-a")
        #expect(try await bench.plane.explainClaims(on: "emu-a").row == "C3")
        try await bench.plane.removeClaim("first")
        await attached(bench, "emu-a", to: "web2")
        await bench.close()
    }

    /// C3
    @Test func whatWasTakenByHandStaysFreeUntilItIsPluggedInAnew() async throws {
        let guests = [GuestSpec(name: "web1"), GuestSpec(name: "web2")]
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"], guests: guests)
        _ = try await bench.plane.addClaim(claim("all", ["product=0525"], ["web1", "web2"]))
        await attached(bench, "emu-a", to: "web1")
        #expect(try await bench.detach("emu-a").state == .succeeded)
        let explanation = try await bench.plane.explainClaims(on: "emu-a")
        #expect(explanation.row == "C3")
        #expect(explanation.heir == nil)
        let before = await bench.lastSequence
        try bench.source.pullOut(DeviceID("emu-a"))
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = await bench.event("attached", after: before) { $0.guest == "web1" }
        await bench.close()
    }

    /// C3: also when that guest is unloaded afterwards; given by hand, it's over.
    @Test func whatWasTakenByHandStaysFreeWhenItsGuestIsUnloaded() async throws {
        let guests = [GuestSpec(name: "web1"), GuestSpec(name: "web2")]
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"], guests: guests)
        _ = try await bench.plane.addClaim(claim("all", ["product=0525"], ["web1", "web2"]))
        await attached(bench, "emu-a", to: "web1")
        #expect(try await bench.detach("emu-a").state == .succeeded)
        #expect(try await bench.unload("web1").state == .succeeded)
        #expect(try await bench.plane.explainClaims(on: "emu-a").row == "C3")
        #expect(try await bench.state("emu-a") == .available)
        try await bench.attach("emu-a", "web2")
        try await bench.load("web1")
        let before = await bench.lastSequence
        #expect(try await bench.unload("web2").state == .succeeded)
        _ = await bench.event("attached", after: before) { $0.guest == "web1" }
        await bench.close()
    }

    /// Fail-back takes from who stands behind in the claim, and from nobody else.
    @Test(arguments: [ClaimSpec.FailBack.now, .idle]) func failBackTakesFromThoseBehindOnly(when: ClaimSpec.FailBack)
        async throws
    {
        let guests = [GuestSpec(name: "web2"), GuestSpec(name: "web3", devices: ["emu-b"])]
        let bench = try await Bench.loaded(["emu-a 0525:a4a0", "emu-b 0525:a4a1"], guests: guests)
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        _ = try await bench.plane.addClaim(claim("a", ["port=emu-a"], ["web1", "web2"], failBack: when))
        _ = try await bench.plane.addClaim(claim("b", ["port=emu-b"], ["web1"], failBack: when))
        await attached(bench, "emu-a", to: "web2")
        let before = await bench.lastSequence
        try await bench.load("web1")
        _ = await bench.event("attached", after: before) { $0.guest == "web1" && $0.device == "emu-a" }
        #expect(try await bench.plane.device("emu-b").attachment?.guest == "web3")
        #expect(await bench.plane.operations().count { $0.kind == "switch" } == 1)
        await bench.close()
    }

    /// C1 before C2
    @Test func whatWasGivenByHandComesBackToThatGuestInSpiteOfAClaim() async throws {
        let guests = [GuestSpec(name: "web1"), GuestSpec(name: "web2")]
        let bench = try await Bench.loaded([], guests: guests)
        _ = try await bench.plane.addClaim(claim("all", ["product=0525"], ["web1"]))
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        await attached(bench, "emu-a", to: "web1")
        #expect(try await bench.detach("emu-a").state == .succeeded)
        try await bench.attach("emu-a", "web2")
        let before = await bench.lastSequence
        try bench.source.pullOut(DeviceID("emu-a"))
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = await bench.event("attached", after: before) { $0.guest == "web2" }
        #expect(try await bench.plane.explainClaims(on: "emu-a").row == "C1")
        await bench.close()
    }

    /// C5
    @Test func explainSaysWhichGuestsAreNotDeclared() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        #expect(try await bench.plane.explainClaims(on: "emu-a").row == "C5")
        _ = try await bench.plane.addClaim(claim("all", ["product=0525"], ["vm9"]))
        let explanation = try await bench.plane.explainClaims(on: "emu-a")
        #expect(explanation.reason.hasSuffix("not declared: vm9"))
        await bench.close()
    }

    @Test func claimsAreThereAgainAfterARestart() async throws {
        let store = MemoryStore()
        let bench = try await Bench(store: store)
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        _ = try await bench.plane.addClaim(claim("b", ["port=emu-b"], ["web1"], failBack: .now))
        _ = try await bench.plane.addClaim(claim("a", ["port=emu-a"], ["web1"]))
        await bench.close()
        let second = try await Bench(store: store)
        let configured = [ClaimSpec(name: "c", match: ["port=emu-c"], guests: ["web1"])]
        await second.plane.restore(store.state, configured: [], claims: configured)
        let claims = await second.plane.claims()
        #expect(claims.map(\.name) == ["c", "b", "a"])
        #expect(claims.map(\.declaredBy) == ["configuration", "control", "control"])
        await #expect { try await second.plane.removeClaim("c") } throws: { ($0 as? Problem)?.code == .conflict }
        try await second.plane.removeClaim("b")
        #expect(await second.plane.claims().map(\.name) == ["c", "a"])
        await second.close()
    }
}
