// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBTestSupport

@testable import VUSBDaemon

/// What `doctor` says of guests.
@Suite(.timeLimit(.minutes(1))) struct DoctorTests {
    @Test func silentGuestsAreAskedAtOnceAndToldOfInOrder() async throws {
        let machines = ["vm1", "vm2", "vm3"].map { TestMachine($0) }
        var times = Bench.times
        // Longer than the test may take: one after another it doesn't come to the second.
        times.question = .seconds(3600)
        let bench = try await Bench(machines: machines, times: times)
        for machine in machines {
            _ = try await bench.plane.addGuest(Bench.guest(machine.name))
            try await bench.load(machine.name)
            machine.change { $0.isSilent = true }
        }
        async let findings = bench.plane.guestFindings()
        for machine in machines { #expect(await machine.asked.wait(for: 1) == [machine.name]) }
        await bench.plane.hurry()
        #expect(
            await findings.map(\.check) == [
                "guest vm1", "guest vm1", "guest vm2", "guest vm2", "guest vm3", "guest vm3",
            ])
        #expect(await findings.map(\.level) == [.ok, .warning, .ok, .warning, .ok, .warning])
        await bench.close()
    }
}
