// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Scheduling.md: order", .timeLimit(.minutes(2)))
struct EndpointOrderTests {
    /// Two threads complete and so let go what one thread submits, which is now held back and now not.
    @Test("URBs of one endpoint reach the backend in the order of their submission")
    func order() async throws {
        let scheduler = BusScheduler(window: BusWindow(bytes: 256, bytesPerSecond: 1 << 20))
        let seen = Inbox<Int>()
        let low = BusLane(scheduler, priority: 10)
        let rig = try Rig(ScriptedBackend(always: .run { seen.append($0.requestedLength) }), lane: low)
        let high = BusLane(scheduler, priority: 90)
        let total = 300
        await Threads.run(4) { index in
            switch index {
            case 0:
                for count in 0..<total {
                    rig.submitIn(count: count)
                    while rig.device.inFlight > 8 { Threads.yield() }
                }
            case 1:
                // Now somebody competes, now not.
                while rig.handler.completions.count < total {
                    high.setPriority(high.priority == 90 ? 10 : 90)
                    Threads.yield()
                }
            default:
                while rig.handler.completions.count < total { if !rig.backend.completeNext() { Threads.yield() } }
            }
        }
        #expect(seen.elements == Array(0..<total))
        rig.expectAtRest()
    }
}
