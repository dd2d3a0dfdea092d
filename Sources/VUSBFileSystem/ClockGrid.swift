// SPDX-License-Identifier: Apache-2.0

/// The periods of one setting of a timer: period k ends at `start + k * period`. It says which have ended that no read
/// has returned (Clock.md). All times are nanoseconds of one clock that never goes back.
struct ClockGrid: Equatable {
    let start: UInt64
    /// Not 0.
    let period: UInt64
    /// The last period that was returned.
    private var returned: UInt64 = 0

    init(start: UInt64, period: UInt64) {
        self.start = start
        self.period = period
    }

    /// When the first period ends that hasn't been returned.
    var nextEnd: UInt64 { start + (returned + 1) * period }

    /// When the next period ends.
    func end(after now: UInt64) -> UInt64 { start + (ended(at: now) + 1) * period }

    /// Periods that have ended and that no read has returned or said to be missed.
    func unread(at now: UInt64) -> UInt64 { max(ended(at: now), returned) - returned }

    /// The last period that has ended is returned.
    mutating func take(at now: UInt64) { returned = max(ended(at: now), returned) }

    private func ended(at now: UInt64) -> UInt64 { now > start ? (now - start) / period : 0 }
}
