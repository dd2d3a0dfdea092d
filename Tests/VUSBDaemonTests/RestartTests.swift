// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBControl
import VUSBCore
import VUSBVMM

@testable import VUSBDaemon

/// What comes back after vusbd was killed or stopped: the second bench has only what the first one saved.
@Suite(.timeLimit(.minutes(1))) struct RestartTests {
    /// Another daemon on the same host: the same saved state, the same devices.
    private func restart(_ store: MemoryStore, _ devices: [String], configured: [ConfiguredGuest] = []) async throws
        -> Bench
    {
        let bench = try await Bench(store: store)
        for device in devices { _ = try await bench.plane.plugIn(device) }
        await bench.plane.restore(store.state, configured: configured)
        return bench
    }

    @Test func guestsAttachmentsAndNumbersComeBack() async throws {
        let devices = ["emu-a 0525:a4a0 S1", "emu-b 0525:a4a1", "emu-c 0525:a4a2"]
        let first = try await Bench.loaded(devices, guests: [GuestSpec(name: "web1"), GuestSpec(name: "web2")])
        try await first.attach("emu-a", "web1")
        try await first.attach("emu-b", "web1")
        try await first.attach("emu-c", "web2")
        _ = try await first.detach("emu-a")
        // As after kill -9: nothing was told to end. The state is what was saved by then.
        let second = try await restart(first.store, devices)
        #expect(await second.plane.guests().map(\.state) == [.loaded, .loaded])
        #expect(try await second.plane.guest("web1").attachments.map(\.path) == ["1-2"])
        #expect(try await second.plane.guest("web1").attachments.map(\.device) == ["emu-b"])
        #expect(try await second.plane.guest("web2").attachments.map(\.device) == ["emu-c"])
        #expect(try await second.attach("emu-a", "web1").path == "1-1")
        await second.close()
        await first.close()
    }

    /// C1: also where a claim is for another guest, which is loaded before.
    @Test(arguments: [ClaimSpec.FailBack.never, .idle, .now])
    func whatWasGivenByHandStaysWithItsGuest(failBack: ClaimSpec.FailBack) async throws {
        let guests = ["web1", "web2", "web3"].map { GuestSpec(name: $0) }
        let first = try await Bench.loaded(["emu-a 0525:a4a0"], guests: guests)
        _ = try await first.plane.addClaim(
            ClaimSpec(name: "stick", match: ["product=0525:a4a0"], guests: ["web1", "web2"], failBack: failBack))
        _ = await first.event("attached")
        let moved = try await first.finish(
            await first.plane.switchDevice("emu-a", SwitchRequest(guest: "web3", deadlineSeconds: 1)))
        #expect(moved.state == .succeeded)
        let second = try await restart(first.store, ["emu-a 0525:a4a0"])
        #expect(try await second.plane.device("emu-a").attachment?.guest == "web3")
        await second.close()
        await first.close()
    }

    @Test func aHoldOutlivesVusbd() async throws {
        let first = try await Bench.loaded(["emu-a 0525:a4a0", "emu-b 0525:a4a1"])
        for device in ["emu-a", "emu-b"] { try await first.attach(device) }
        let hold = try await first.plane.hold("emu-a", HoldRequest(seconds: 3600, reason: "backup")).hold
        _ = try await first.plane.hold("emu-b", HoldRequest())
        try await first.plane.endHold("emu-b")
        let second = try await restart(first.store, ["emu-a 0525:a4a0", "emu-b 0525:a4a1"])
        let again = try await second.plane.device("emu-a").hold
        #expect(again?.reason == "backup")
        #expect(again.map { abs($0.until - (hold?.until ?? 0)) < 1 } == true)
        #expect(try await second.plane.device("emu-b").hold == nil)
        #expect(try await second.detach("emu-a").error?.code == .busy)
        await second.close()
        await first.close()
    }

    @Test func attachmentsStaySavedOverACleanStop() async throws {
        let first = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await first.attach("emu-a")
        let before = first.store.state
        await first.close()
        #expect(first.store.state == before)
        let second = try await restart(first.store, ["emu-a 0525:a4a0"])
        #expect(try await second.state("emu-a") == .attached)
        await second.close()
    }

    @Test func aDeviceGoesBackToItsOwnGuestAlsoWhereAnotherOneLoadedBeforeWantsItToo() async throws {
        let guests = [GuestSpec(name: "any", devices: ["0525:a4a0"]), GuestSpec(name: "web1")]
        let first = try await Bench.loaded([], guests: guests)
        _ = try await first.plane.plugIn("emu-a 0525:a4a0")
        _ = await first.event("attached")
        _ = try await first.detach("emu-a")
        try await first.attach("emu-a", "web1")
        let second = try await restart(first.store, ["emu-a 0525:a4a0"])
        #expect(try await second.plane.guest("web1").attachments.map(\.device) == ["emu-a"])
        await second.close()
        await first.close()
    }

    @Test func aDeviceThatComesAfterTheRestartComesBackToo() async throws {
        let first = try await Bench.loaded(["emu-a 0525:a4a0 S1"])
        try await first.attach("emu-a")
        let second = try await restart(first.store, [])
        _ = try await second.plane.plugIn("emu-b 0525:a4a0 S1")
        #expect(await second.event("attached")?.path == "1-1")
        await second.close()
        await first.close()
    }

    @Test func aDeviceThatIsNotThereAnyMoreIsToldOfOnce() async throws {
        let devices = ["emu-a 0525:a4a0 S1", "emu-b 0525:a4a1"]
        let first = try await Bench.loaded(devices)
        try await first.attach("emu-a")
        try await first.attach("emu-b")
        let second = try await restart(first.store, ["emu-b 0525:a4a1"])
        let missing = await second.plane.eventRing.known.filter { $0.type == "device-missing" }
        #expect(missing.map(\.device) == ["emu-a"])
        #expect(missing.map(\.guest) == ["web1"])
        #expect(missing.first?.detail?.contains("0525:a4a0:S1") == true)
        await second.close()
        await first.close()
    }

    @Test func aGuestWhoseProcessEndedMeanwhileStaysUnloaded() async throws {
        let store = MemoryStore()
        var state = SavedState()
        state.guests = [GuestSpec(name: "web1")]
        state.loaded = [
            SavedState.Loaded(guest: "web1", process: GuestProcess(pid: 1, startTime: 1), held: [], released: [])
        ]
        await store.save(state, revision: 1)
        let bench = try await restart(store, [])
        #expect(try await bench.state(of: "web1") == .unloaded)
        await bench.close()
    }

    @Test func configuredGuestsAreLoadedWhereTheySaySo() async throws {
        let configured = [
            ConfiguredGuest(specification: GuestSpec(name: "web1", devices: ["0525:a4a0"]), load: true),
            ConfiguredGuest(specification: GuestSpec(name: "web2")),
        ]
        let bench = try await restart(MemoryStore(), ["emu-a 0525:a4a0"], configured: configured)
        #expect(await bench.plane.guests().map(\.state) == [.loaded, .unloaded])
        #expect(try await bench.state("emu-a") == .attached)
        await bench.close()
    }

    @Test func aSavedGuestThatCannotBeAnyMoreDoesNotKeepTheOthersDown() async throws {
        let store = MemoryStore()
        var state = SavedState()
        state.guests = [GuestSpec(name: "web1", owner: "no-such-user"), GuestSpec(name: "web2")]
        await store.save(state, revision: 1)
        let bench = try await restart(store, [])
        #expect(await bench.plane.guests().map(\.name) == ["web2"])
        await bench.close()
    }
}
