// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl

@testable import VUSBDaemon

/// Which guests' directories are shown to machines' exporters, and when.
struct ExportTests {
    private static let machine = GuestSpec(
        name: "vm1", connector: "qemu", qmp: "/run/vm1/qmp", agent: "/run/vm1/agent", share: "virtiofs:vusb")

    @Test
    func aMachineWithAShareIsExportedUntilItIsRemoved() async throws {
        let bench = try await Bench(machines: [TestMachine("vm1")])
        let guest = try await bench.plane.addGuest(Self.machine)
        #expect(guest.export == "/exports/vm1")
        #expect(bench.exports.guests == ["vm1"])
        try await bench.plane.removeGuest("vm1")
        #expect(bench.exports.guests.isEmpty)
        await bench.plane.stop(deadline: .zero)
    }

    @Test
    func aLocalGuestIsntExported() async throws {
        let bench = try await Bench()
        let guest = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        #expect(guest.export == nil)
        #expect(bench.exports.guests.isEmpty)
        await bench.plane.stop(deadline: .zero)
    }

    @Test
    func nothingIsExportedOnceVusbdHasStopped() async throws {
        let bench = try await Bench(machines: [TestMachine("vm1")])
        _ = try await bench.plane.addGuest(Self.machine)
        await bench.plane.stop(deadline: .zero)
        #expect(bench.exports.guests.isEmpty)
    }

    @Test
    func exportsOfGuestsThatArentThereAnyMoreAreRemovedAtTheStart() async throws {
        let bench = try await Bench(machines: [TestMachine("vm1")])
        bench.exports.publish("gone")
        var saved = SavedState()
        saved.guests = [Self.machine]
        await bench.plane.restore(saved, configured: [])
        #expect(bench.exports.guests == ["vm1"])
        await bench.plane.stop(deadline: .zero)
    }
}
