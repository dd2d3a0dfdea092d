// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

/// Several devices of one bus, on the clock and its thread as in the daemon. What must hold whoever wins: each URB
/// completes exactly once, with a status that its row allows, and nothing is left.
@Suite("Cancellation.md: races of what is held back", .serialized, .timeLimit(.minutes(2)))
struct HeldBackRaceTests {
    private struct Guests {
        let scheduler = BusScheduler(window: BusWindow(bytes: 256, bytesPerSecond: 1 << 20))
        let limits = GuestLimits(.init(urbsInFlight: 6))
        let lanes: [BusLane]
        let rigs: [Rig]

        /// Two of priority 10, one of them limited, and one of 90.
        init(_ backend: () -> ScriptedBackend) throws {
            lanes = [
                BusLane(scheduler, priority: 10), BusLane(scheduler, priority: 10, limits: limits),
                BusLane(scheduler, priority: 90),
            ]
            rigs = try lanes.map { try Rig(backend(), lane: $0) }
        }

        func expectAtRest(_ submitted: [Int]) {
            for (rig, count) in zip(rigs, submitted) {
                let contexts = rig.handler.completions.map(\.context)
                #expect(contexts.count == count)
                #expect(Set(contexts).count == contexts.count)
                rig.expectAtRest()
            }
            #expect(lanes.map(\.status.queued) == [0, 0, 0])
            #expect(scheduler.bytesInWindow == 0)
        }
    }

    @Test("C70, C71, C72: submit, cancel, complete, and priorities that change")
    func submitCancelComplete() async throws {
        let guests = try Guests { ScriptedBackend(always: .hold) }
        let (rounds, total) = (150, 300)
        let tokens = guests.rigs.map { _ in Inbox<URBToken>() }
        await Threads.run(11) { index in
            let device = index % 3
            let rig = guests.rigs[device]
            switch index {
            case 0..<6:
                for round in 0..<rounds {
                    tokens[device].append(rig.submitIn(context: UInt64(index * rounds + round)))
                    // The table has room for all, the bus hasn't: it lags behind.
                    while rig.device.inFlight > 100 { Threads.yield() }
                }
            case 6..<9:
                while rig.handler.completions.count < total { if !rig.backend.completeNext() { Threads.yield() } }
            case 9:
                for next in stride(from: 0, to: total, by: 3) {
                    for (rig, tokens) in zip(guests.rigs, tokens) {
                        while tokens.count <= next { Threads.yield() }
                        rig.device.cancel(tokens.elements[next])
                    }
                }
            default:
                var priority = 0
                while guests.rigs.contains(where: { $0.handler.completions.count < total }) {
                    priority = (priority + 20) % 100
                    guests.lanes[0].setPriority(priority)
                    Threads.yield()
                }
            }
        }
        for rig in guests.rigs { #expect(Set(rig.statuses).isSubset(of: [.success, .cancelled])) }
        guests.expectAtRest([total, total, total])
    }

    @Test("C73, C75: submit against close, unplug and reset")
    func submitClose() async throws {
        for round in 0..<10 {
            let guests = try Guests { ScriptedBackend(always: .hold) }
            let submitted = guests.rigs.map { _ in Counter() }
            let ending = Task {
                for count in submitted { while count.value < 20 { await Task.yield() } }
                try await guests.rigs[0].device.reset()
                if round % 2 == 0 { guests.rigs[1].device.disconnect() }
                for rig in guests.rigs { await rig.device.close() }
            }
            await Threads.run(6) { index in
                let rig = guests.rigs[index % 3]
                let token = Later<URBToken>()
                while rig.device.admission != .closed(.noDevice) {
                    guard rig.device.inFlight < 100 else { continue }
                    token.value.map(rig.device.cancel)
                    token.value = rig.submitIn(context: submitted[index % 3].next())
                }
            }
            try await ending.value
            for rig in guests.rigs {
                #expect(Set(rig.statuses).isSubset(of: [.cancelled, .noDevice, .shutdown, .busy]))
            }
            guests.expectAtRest(submitted.map(\.value))
        }
    }

    @Test("C74: submit against drain, on backends that complete within submit: all that was accepted is told")
    func submitDrain() async throws {
        let guests = try Guests { ScriptedBackend(always: .complete()) }
        let stop = Atomic<Bool>(false)
        let submitted = guests.rigs.map { _ in Counter() }
        let draining = Task {
            for _ in 0..<5 {
                for rig in guests.rigs {
                    #expect(await rig.device.drain(for: .seconds(30)) == 0)
                    rig.device.resumeAdmitting()
                }
            }
            stop.store(true, ordering: .relaxed)
        }
        await Threads.run(3) { index in
            while !stop.load(ordering: .relaxed) {
                let rig = guests.rigs[index % 3]
                rig.submitIn(context: submitted[index % 3].next())
                // What is refused comes back at once: the drain needs the processor, too. And the table isn't to be full.
                while rig.device.inFlight > 100 { Threads.yield() }
                if rig.device.admission != .admitting { Threads.yield() }
            }
        }
        await draining.value
        for rig in guests.rigs { #expect(await rig.device.drain(for: .seconds(30)) == 0) }
        for rig in guests.rigs { #expect(Set(rig.statuses).isSubset(of: [.success, .busy])) }
        guests.expectAtRest(submitted.map(\.value))
    }

    private final class Counter: Sendable {
        private let count = Atomic<Int>(0)
        var value: Int { count.load(ordering: .relaxed) }
        func next() -> UInt64 { UInt64(count.wrappingAdd(1, ordering: .relaxed).newValue) }
    }
}
