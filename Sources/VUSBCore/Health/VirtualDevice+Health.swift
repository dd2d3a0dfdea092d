// SPDX-License-Identifier: Apache-2.0

import Synchronization

extension VirtualDevice {
    /// Looks for cancelled URBs that don't end, and has the device judged for them. To be called about once a second,
    /// for each device that has a `DeviceHealth`; its time is linear in the URBs in flight, and next to nothing where
    /// none is cancelled.
    ///
    /// A URB's time begins with the first look that finds it cancelled. So it has the limit, and a period more at most.
    /// - Parameter now: nanoseconds of a clock that never goes back.
    /// - Returns: how many are overdue.
    @discardableResult
    package func overdue(now: UInt64) -> Int {
        guard let health, let time = health.limits.cancelTime, time > .zero else { return 0 }
        let limit = time.clockNanoseconds
        let (count, endpoint) = state.withLock { $0.table.overdue(now: now, limit: limit) }
        if count > 0 { health.hasOverdue(count, after: time, on: endpoint) }
        return count
    }
}
