// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// Guests' devices on one bus, whose backends hold what they get until the test completes it.
struct BusRig: Sendable {
    struct Guest: Sendable {
        let lane: BusLane
        let rig: Rig
        /// How long it was passed over, as it was told.
        let passedOver: Inbox<Duration>

        /// Requested lengths of what its backend has.
        var atBackend: [Int] { rig.backend.held.map(\.requestedLength) }
    }

    let clock = ManualClock()
    let scheduler: BusScheduler

    /// 64 KiB at 64 MB/s: a window takes about a millisecond, and what is in flight for 3 ms is parked.
    static let window = BusWindow(bytes: 64 << 10, bytesPerSecond: 64 << 20)
    /// A little more than that.
    static let parkingTime = Duration.milliseconds(4)

    init(window: BusWindow = BusRig.window) { scheduler = BusScheduler(window: window, clock: clock) }

    func guest(
        _ priority: Int,
        limits: GuestLimits? = nil,
        backend: ScriptedBackend = ScriptedBackend(always: .hold),
        handler: RecordingHandler = RecordingHandler()
    ) throws -> Guest {
        let passedOver = Inbox<Duration>()
        let lane = BusLane(scheduler, priority: priority, limits: limits) { passedOver.append($0) }
        return Guest(lane: lane, rig: try Rig(backend, handler: handler, lane: lane), passedOver: passedOver)
    }

    /// What holds at the end of every test.
    func expectAtRest(_ guests: [Guest], sourceLocation: SourceLocation = #_sourceLocation) {
        for guest in guests {
            guest.rig.expectAtRest(sourceLocation: sourceLocation)
            #expect(guest.lane.status.queued == 0, sourceLocation: sourceLocation)
        }
        #expect(scheduler.bytesInWindow == 0, sourceLocation: sourceLocation)
    }
}

extension Int {
    /// Bytes.
    var kibibytes: Int { self << 10 }
}
