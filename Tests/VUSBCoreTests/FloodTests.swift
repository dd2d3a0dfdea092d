// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

/// What the scheduler promises, on a simulated bus of 40 MB/s.
@Suite("Scheduling.md: flood", .serialized, .timeLimit(.minutes(2)))
struct FloodTests {
    private struct Case {
        let alone: FloodSimulation.Result
        let unscheduled: FloodSimulation.Result
        let scheduled: FloodSimulation.Result

        init(_ order: SimulatedBus.Order, _ probe: FloodSimulation.Probe, length: Int = 64 << 10) throws {
            var simulation = FloodSimulation(order: order, floods: 0, isScheduled: true, probe: probe, length: length)
            alone = try simulation.run()
            simulation.floods = 4
            scheduled = try simulation.run()
            simulation.isScheduled = false
            unscheduled = try simulation.run()
        }

        var throughputRatio: Double { Double(scheduled.throughput) / Double(unscheduled.throughput) }
        var latencyRatio: Double { Double(scheduled.p99) / Double(alone.p99) }
    }

    @Test("An interrupt URB of an important guest takes at most twice as long as alone, the bus stays as busy")
    func interrupt() throws {
        let result = try Case(.turns, .interrupt)
        #expect(result.latencyRatio <= 2)
        #expect(result.throughputRatio >= 0.9)
    }

    @Test("A bulk URB of an important guest waits for one window at most, also where the bus is served in order")
    func bulk() throws {
        let fair = try Case(.turns, .bulk)
        // Four others, a packet of each, twice.
        #expect(fair.scheduled.p99 < 500_000)
        #expect(fair.throughputRatio >= 0.9)
        let worst = try Case(.oldestFirst, .bulk)
        // 64 KiB at 40 MB/s.
        #expect(worst.scheduled.p99 <= 1_640_000 + 70_000)
        #expect(worst.unscheduled.p99 > 20_000_000)
        #expect(worst.throughputRatio >= 0.9)
    }

    @Test("The same with URBs of 16 KiB, and with some that are longer than the window")
    func otherLengths() throws {
        for length in [16 << 10, 128 << 10] {
            let result = try Case(.oldestFirst, .bulk, length: length)
            #expect(result.scheduled.p99 <= UInt64(max(length, 64 << 10)) * 25 + 70_000)
            #expect(result.throughputRatio >= 0.9)
        }
    }
}
