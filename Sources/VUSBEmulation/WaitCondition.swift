// SPDX-License-Identifier: Apache-2.0

import CVUSBShims
import Glibc

/// A flag that a thread waits for, with a deadline on the monotonic clock: what `Mutex` doesn't have.
///
/// Concurrency model: any thread signals, one thread waits. The flag is behind the pthread mutex; nothing else is
/// called while it's held.
@safe
final class WaitCondition: @unchecked Sendable {
    // SAFETY: both are initialised in init, destroyed in deinit, and never copied in between.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// Guarded by `mutex`.
    private var isSignalled = false

    init() {
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe condition.initialize(to: pthread_cond_t())
        var attributes = pthread_condattr_t()
        // These fail only for arguments that aren't valid.
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_mutex_init(mutex, nil)
        unsafe pthread_cond_init(condition, &attributes)
        unsafe pthread_condattr_destroy(&attributes)
    }

    deinit {
        unsafe pthread_cond_destroy(condition)
        unsafe pthread_mutex_destroy(mutex)
        unsafe condition.deallocate()
        unsafe mutex.deallocate()
    }

    /// Lets the waiter go on, now or at its next `wait`.
    func signal() {
        unsafe pthread_mutex_lock(mutex)
        isSignalled = true
        unsafe pthread_cond_signal(condition)
        unsafe pthread_mutex_unlock(mutex)
    }

    /// Waits for `signal`, which it consumes, or until `deadline` (nanoseconds of the monotonic clock).
    /// - Returns: false where it was the deadline.
    func wait(until deadline: UInt64) -> Bool {
        var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
        unsafe pthread_mutex_lock(mutex)
        var code: Int32 = 0
        while !isSignalled && code != ETIMEDOUT { code = unsafe pthread_cond_timedwait(condition, mutex, &time) }
        let signalled = isSignalled
        isSignalled = false
        unsafe pthread_mutex_unlock(mutex)
        return signalled
    }
}

/// Nanoseconds of the monotonic clock.
func monotonicNow() -> UInt64 {
    var time = timespec()
    // It can't fail for this clock and a valid pointer.
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
