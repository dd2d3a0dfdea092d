// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A point in time, to some milliseconds. Unlike other clocks this one asks no hardware: it costs the data path nothing,
/// also where the kernel's clock source is one that only a system call can read, such as the HPET.
struct CoarseInstant: Sendable {
    private let time: Duration

    /// Of CLOCK_MONOTONIC_COARSE.
    static var now: CoarseInstant {
        var value = timespec()
        // SAFETY: `value` is a whole timespec. It can't fail: every Linux has the clock.
        unsafe clock_gettime(CLOCK_MONOTONIC_COARSE, &value)
        return CoarseInstant(time: .seconds(value.tv_sec) + .nanoseconds(value.tv_nsec))
    }

    static func - (later: CoarseInstant, earlier: CoarseInstant) -> Duration { later.time - earlier.time }
}
