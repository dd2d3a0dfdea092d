// SPDX-License-Identifier: Apache-2.0

import CVUSBShims
import Glibc

/// A counting semaphore for the threads here; it uses no file descriptor. Never wait in async code.
@safe
final class Semaphore: @unchecked Sendable {
    // SAFETY: a sem_t at a fixed address is made to be used by any thread; freed when nobody has a reference.
    private let raw: UnsafeMutablePointer<sem_t>

    init(value: UInt32 = 0) {
        unsafe raw = .allocate(capacity: 1)
        unsafe sem_init(raw, 0, value)
    }

    deinit {
        unsafe sem_destroy(raw)
        unsafe raw.deallocate()
    }

    func post() {
        // Fails only at SEM_VALUE_MAX, 2^31 posts that nobody waited for.
        unsafe sem_post(raw)
    }

    func wait() {
        while unsafe sem_wait(raw) != 0 && errno == EINTR {}
    }

    /// False at the deadline, by the monotonic clock.
    func wait(until deadline: MonotonicTime) -> Bool {
        while unsafe CVUSBShims_sem_wait_until(raw, deadline.nanoseconds) != 0 {
            guard errno == EINTR else { return false }
        }
        return true
    }
}

/// A point of CLOCK_MONOTONIC, in nanoseconds.
struct MonotonicTime: Comparable {
    let nanoseconds: Int64

    /// Now, and so much later.
    static func after(_ duration: Duration) -> MonotonicTime {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        let (seconds, attoseconds) = duration.components
        let now = Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
        return MonotonicTime(nanoseconds: now + seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }

    static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }
}
