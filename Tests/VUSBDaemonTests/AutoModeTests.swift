// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// Mode `auto` by what is measured (Arbiter.md, M1 to M6): what a meter advises.
@Suite struct ModeMeterTests {
    private static let start = ContinuousClock.now
    private static let rule = ModeMeter.Rule(window: .seconds(100), dear: .seconds(10), cheap: .seconds(2))
    private static func at(_ seconds: Double) -> ContinuousClock.Instant { start + .seconds(seconds) }

    /// Loads as often, one a second from the first second on.
    private func meter(loads: Int, taking seconds: Double = 3) -> ModeMeter {
        var meter = ModeMeter()
        for index in 0..<loads { meter.count(.load, at: Self.at(Double(index)), rule: Self.rule) }
        meter.measure(.load, in: .module, took: .seconds(seconds))
        meter.measure(.load, in: .redirect, took: .seconds(1))
        return meter
    }

    /// M3
    @Test func aGuestThatChangesSeldomGetsTheModuleOnceItWasWatchedForAWindow() {
        let meter = meter(loads: 1)
        let early = meter.advice(for: .redirect, at: Self.at(99), rule: Self.rule)
        #expect(early.mode == .redirect)
        #expect(early.reason.contains("watched for less than that"))
        let late = meter.advice(for: .redirect, at: Self.at(101), rule: Self.rule)
        #expect(late.mode == .module)
        #expect(
            late.reason == "loads 0, unloads 0, attaches 0, detaches 0, switches 0 within 100 s: with the module that "
                + "takes 0.0 s more than with a controller")
    }

    /// M4
    @Test(arguments: [(5, GuestMode.module), (6, .redirect)])
    func aGuestThatChangesOftenGetsAControllerAtOnce(loads: Int, mode: GuestMode) {
        let meter = meter(loads: loads)
        #expect(meter.extraSeconds(at: Self.at(10), rule: Self.rule) == Double(2 * loads))
        #expect(meter.advice(for: .module, at: Self.at(10), rule: Self.rule).mode == mode)
    }

    /// M3, M4: between the two limits all stays as it is.
    @Test(arguments: [GuestMode.module, .redirect])
    func betweenTheLimitsItStays(mode: GuestMode) {
        var meter = meter(loads: 1)
        for second in 101..<105 { meter.count(.load, at: Self.at(Double(second)), rule: Self.rule) }
        #expect(meter.advice(for: mode, at: Self.at(110), rule: Self.rule).mode == mode)
    }

    /// M3: after a move it's watched anew.
    @Test func aMoveBeginsANewWindow() {
        var meter = meter(loads: 6)
        meter.moved(at: Self.at(10))
        #expect(meter.advice(for: .redirect, at: Self.at(109), rule: Self.rule).mode == .redirect)
        #expect(meter.advice(for: .redirect, at: Self.at(111), rule: Self.rule).mode == .module)
    }

    @Test func aModuleThatIsTheQuickerOneIsNeverDear() {
        let meter = meter(loads: 90, taking: 0.5)
        #expect(meter.extraSeconds(at: Self.at(95), rule: Self.rule) == -45)
        #expect(meter.advice(for: .module, at: Self.at(95), rule: Self.rule).mode == .module)
        #expect(meter.advice(for: .redirect, at: Self.at(101), rule: Self.rule).reason.contains("s less than"))
    }

    @Test func whatIsNewCountsForAtLeastAnEighth() {
        var meter = ModeMeter()
        for _ in 0..<100 { meter.measure(.attach, in: .module, took: .seconds(1)) }
        meter.measure(.attach, in: .module, took: .seconds(9))
        #expect(meter.seconds(for: .attach, in: .module) == 2)
    }

    @Test func nothingGrowsWithoutABound() {
        var meter = ModeMeter()
        for _ in 0..<10_000 { meter.count(.attach, at: Self.start, rule: Self.rule) }
        #expect(meter.count(of: .attach, at: Self.at(1), rule: Self.rule) == 4096)
        #expect(meter.count(of: .attach, at: Self.at(100), rule: Self.rule) == 0)
    }
}

/// Mode `auto` by what is measured: what the control plane makes of it.
@Suite(.timeLimit(.minutes(1))) struct AutoModeTests {
    /// All that was is forgotten at once, so that the module is the better one.
    private static let forModule = ModeMeter.Rule(window: .zero, dear: .seconds(10), cheap: .seconds(2))
    /// The module is always too dear.
    private static let forController = ModeMeter.Rule(dear: .seconds(-1_000_000), cheap: .seconds(-2_000_000))

    /// A machine that could have either.
    private static func bench(
        _ rule: ModeMeter.Rule, lists: [String] = [], policy: String? = nil, store: MemoryStore = MemoryStore()
    ) async throws -> (Bench, TestMachine) {
        let machine = TestMachine("vm1")
        machine.change { $0.controllers = [GuestController(bus: "xhci.0", kind: .xhci, ports: 4, freePorts: 4)] }
        let bench = try await Bench(store: store, machines: [machine], modeRule: rule)
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = try await bench.plane.addGuest(Bench.guest("vm1", lists, policy: policy))
        return (bench, machine)
    }

    private func mode(_ bench: Bench) async throws -> String? { try await bench.plane.guest("vm1").loadedMode }

    /// M2, M3
    @Test func aQuietGuestGetsTheModuleAtItsNextLoad() async throws {
        let (bench, machine) = try await Self.bench(Self.forModule)
        try await bench.load("vm1")
        #expect(try await mode(bench) == "redirect")
        let auto = try #require(try await bench.plane.guest("vm1").auto)
        #expect(auto.mode == "redirect" && auto.next == "module")
        _ = try await bench.unload("vm1")
        let info = try await bench.load("vm1")
        #expect(info.steps.contains { $0.name.hasPrefix("mode module: loads 0") })
        #expect(await bench.event("mode-chosen")?.detail?.hasPrefix("module: ") == true)
        #expect(try await mode(bench) == "module")
        #expect(machine.journal == ["insmod"])
        #expect(bench.store.state.chosen == [SavedState.Chosen(guest: "vm1", mode: "module")])
        await bench.close()
    }

    /// M4
    @Test func aBusyGuestGetsAControllerAtItsNextLoad() async throws {
        let (bench, machine) = try await Self.bench(Self.forController)
        var state = SavedState()
        state.chosen = [SavedState.Chosen(guest: "vm1", mode: "module")]
        await bench.plane.restore(state, configured: [])
        try await bench.load("vm1")
        #expect(try await mode(bench) == "redirect")
        #expect(machine.journal.isEmpty)
        await bench.close()
    }

    /// M5: with its last device gone, and what it is to have again isn't forgotten.
    @Test func aGuestWithoutADeviceIsMovedAtOnce() async throws {
        let (bench, machine) = try await Self.bench(Self.forModule)
        try await bench.load("vm1")
        try await bench.attach("emu-a", "vm1")
        let before = await bench.lastSequence
        try bench.source.pullOut(DeviceID("emu-a"))
        await bench.state("loaded", of: "vm1", after: before)
        #expect(try await mode(bench) == "module")
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        let attached = await bench.event("attached", after: before)
        #expect(attached?.guest == "vm1")
        let guest = try await bench.plane.guest("vm1")
        #expect(guest.attachments.first?.mode == "module")
        #expect(machine.journal == ["plug vm1.1-1 at /run/redirect/vm1-1-1", "unplug vm1.1-1", "insmod"])
        await bench.close()
    }

    /// M5: while it has one it stays, and says what would be better.
    @Test func aGuestWithADeviceIsNotMoved() async throws {
        let (bench, machine) = try await Self.bench(Self.forModule, lists: ["0525:a4a0"])
        _ = try await bench.plane.plugIn("emu-b 0525:a4a0")
        try await bench.load("vm1")
        _ = try await bench.detach("emu-b")
        #expect(try await mode(bench) == "redirect")
        #expect(try await bench.plane.guest("vm1").auto?.next == "module")
        #expect(!machine.journal.contains("insmod"))
        await bench.close()
    }

    /// M6
    @Test func whereTheModuleCannotBeHadAControllerDoes() async throws {
        let (bench, machine) = try await Self.bench(Self.forModule, lists: ["emu-a"])
        try await bench.load("vm1")
        _ = try await bench.unload("vm1")
        machine.change { $0.loadError = USBError(.notFound, "no build for kernel 1.2", remedy: "build one") }
        let info = try await bench.load("vm1")
        #expect(info.steps.contains { $0.name.hasPrefix("not with the module: ") && $0.name.contains("no build") })
        #expect(try await mode(bench) == "redirect")
        #expect(try await bench.plane.guest("vm1").attachments.first?.mode == "redirect")
        #expect(bench.tree.channels.isEmpty)
        await bench.close()
    }

    /// M1: a mode that somebody chose is never changed.
    @Test func aModeThatWasChosenStays() async throws {
        let (bench, _) = try await Self.bench(Self.forModule)
        try await bench.load("vm1")
        _ = try await bench.unload("vm1")
        _ = try await bench.finish(await bench.plane.load("vm1", LoadRequest(mode: "redirect")))
        #expect(try await mode(bench) == "redirect")
        await bench.close()
    }

    @Test func whatIsCountedIsShown() async throws {
        let (bench, _) = try await Self.bench(ModeMeter.Rule())
        try await bench.load("vm1")
        try await bench.attach("emu-a", "vm1")
        _ = try await bench.detach("emu-a")
        let auto = try #require(try await bench.plane.guest("vm1").auto)
        #expect([auto.loads, auto.unloads, auto.attaches, auto.detaches, auto.switches] == [1, 0, 1, 1, 0])
        #expect(auto.windowSeconds == 3600)
        #expect(auto.next == "redirect")
        await bench.close()
    }
}
