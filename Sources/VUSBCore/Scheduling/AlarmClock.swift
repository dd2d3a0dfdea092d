// SPDX-License-Identifier: Apache-2.0

/// What an `AlarmClock` wakes.
package protocol AlarmReceiver: AnyObject, Sendable {
    /// Called on a thread of the clock, with no lock held.
    func alarmRang()
}

/// The scheduler's time: reads it, and wakes a scheduler that has URBs held back when one of them may be due.
///
/// A scheduler that holds nothing back sets no alarm.
package protocol AlarmClock: AnyObject, Sendable {
    /// Nanoseconds of a clock that never goes back.
    func now() -> UInt64

    /// Calls `alarmRang` once, at `time` or soon after. Of several alarms of one receiver only the earliest need ring.
    /// It must not ring within this call.
    func wake(_ receiver: any AlarmReceiver, at time: UInt64)
}
