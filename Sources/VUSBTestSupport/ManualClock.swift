// SPDX-License-Identifier: Apache-2.0

import Synchronization
package import VUSBCore

/// A clock that stands still until a test moves it.
///
/// Concurrency model: any thread reads it and sets alarms; the test's moves it, and alarms ring on that one. All state
/// is in one `Mutex`, a leaf.
package final class ManualClock: AlarmClock {
    private struct Alarm {
        let time: UInt64
        let receiver: any AlarmReceiver
    }

    private struct State {
        /// Not 0: what begins with the machine isn't a special case.
        var now: UInt64 = 1_000_000_000
        var alarms: [Alarm] = []
    }

    private let state = Mutex(State())

    package init() {}

    package func now() -> UInt64 { state.withLock { $0.now } }

    package func wake(_ receiver: any AlarmReceiver, at time: UInt64) {
        state.withLock { $0.alarms.append(Alarm(time: time, receiver: receiver)) }
    }

    /// Whether anybody is to be woken.
    package var isSet: Bool { state.withLock { !$0.alarms.isEmpty } }

    /// When the next alarm rings.
    package var nextAlarm: UInt64? { state.withLock { $0.alarms.map(\.time).min() } }

    /// Moves on, and rings all alarms on the way, each at its time.
    package func advance(by duration: Duration) {
        let (seconds, attoseconds) = duration.components
        let end = now() + UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
        while let alarm = nextDue(end) { alarm.receiver.alarmRang() }
        state.withLock { $0.now = end }
    }

    private func nextDue(_ end: UInt64) -> Alarm? {
        state.withLock { state in
            guard let index = state.alarms.indices.min(by: { state.alarms[$0].time < state.alarms[$1].time }),
                state.alarms[index].time <= end
            else { return nil }
            let alarm = state.alarms.remove(at: index)
            state.now = max(state.now, alarm.time)
            return alarm
        }
    }
}
