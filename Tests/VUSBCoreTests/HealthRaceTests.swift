// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

/// Q11 of Health.md, for Thread Sanitizer.
@Suite struct HealthRaceTests {
    @Test func `Q11: many threads reach several limits, and one verdict is told`() async throws {
        let verdicts = Inbox<Misbehaviour>()
        var limits = HealthLimits()
        limits.stalls = EventLimit(500, in: .seconds(600))
        limits.babble = EventLimit(500, in: .seconds(600))
        let health = DeviceHealth(limits) { verdicts.append($0) }
        let backend = ScriptedBackend(
            always: .run { urb in urb.complete(urb.endpoint.direction == .in ? .stall : .babble) })
        let rig = try Rig(backend, health: health)
        await Threads.run(4) { thread in
            for _ in 0..<500 {
                if thread % 2 == 0 {
                    rig.submitIn()
                } else {
                    rig.device.submit(
                        TestURB.out(EndpointAddress(rawValue: 2), [1], pool: rig.pool, handler: rig.handler))
                }
                rig.device.overdue(now: AlarmThread.shared.now())
            }
        }
        #expect(verdicts.elements.count == 1)
        #expect(health.verdict == verdicts.elements.first)
        rig.expectAtRest()
    }

    @Test func `Q1: successes on another thread keep an endpoint well`() async throws {
        let verdicts = Inbox<Misbehaviour>()
        var limits = HealthLimits()
        limits.stalls = EventLimit(200, in: .seconds(600))
        let count = Counter()
        let backend = ScriptedBackend(always: .run { urb in urb.complete(count.next() % 2 == 0 ? .success : .stall) })
        let rig = try Rig(backend, health: DeviceHealth(limits) { verdicts.append($0) })
        await Threads.run(4) { _ in
            for _ in 0..<500 { rig.submitIn() }
        }
        #expect(verdicts.elements == [])
        rig.expectAtRest()
    }
}

private final class Counter: Sendable {
    private let value = Atomic<Int>(0)
    func next() -> Int { value.add(1, ordering: .relaxed).newValue }
}
