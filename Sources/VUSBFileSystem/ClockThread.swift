// SPDX-License-Identifier: Apache-2.0

// Before the shims: `struct stat` belongs to whichever C module is seen first, and files that use it import this one.
internal import CFuse3
internal import CVUSBShims
internal import Glibc
internal import VUSBCore

/// What `clock` files need of a clock beyond what schedulers do.
protocol FileClock: AlarmClock {
    /// To be called before `wake`. False where there is no thread to be had.
    func start() -> Bool

    /// An alarm of the receiver doesn't ring any more, unless it's ringing now.
    func forget(_ receiver: any AlarmReceiver)

    /// Returns when no alarm is ringing. Not to be called from a receiver.
    func settle()
}

/// The monotonic clock, and the one thread that waits on it for all `clock` files of the process.
///
/// Concurrency model: any thread sets and forgets alarms. The thread is started with the first file that is opened and
/// never ends; without an alarm it sleeps without a deadline. The alarms are behind the pthread mutex (`Mutex` has no
/// condition to wait for), which is held across no call to a receiver. Lock order: none, it is a leaf.
@safe
final class ClockThread: FileClock, @unchecked Sendable {
    static let shared = ClockThread()

    // SAFETY: all are initialised in init and live as long as the process, as `shared` does.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// An alarm was set that is the earliest.
    private let isSet = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// No alarm is ringing any more.
    private let isSettled = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // SAFETY: these are guarded by `mutex`.
    private var alarms = DeadlineHeap()
    private var isRunning = false
    private var isRinging = false

    private init() {
        unsafe mutex.initialize(to: pthread_mutex_t())
        unsafe isSet.initialize(to: pthread_cond_t())
        unsafe isSettled.initialize(to: pthread_cond_t())
        var attributes = pthread_condattr_t()
        // These fail only for arguments that aren't valid.
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_mutex_init(mutex, nil)
        unsafe pthread_cond_init(isSet, &attributes)
        unsafe pthread_cond_init(isSettled, &attributes)
        unsafe pthread_condattr_destroy(&attributes)
    }

    func now() -> UInt64 { AlarmThread.shared.now() }

    func start() -> Bool {
        withLock {
            if !isRunning { isRunning = makeThread() }
            return isRunning
        }
    }

    func wake(_ receiver: any AlarmReceiver, at time: UInt64) {
        withLock {
            let before = alarms.first
            alarms.set(receiver, at: time)
            if alarms.first != before { unsafe pthread_cond_signal(isSet) }
        }
    }

    func forget(_ receiver: any AlarmReceiver) { withLock { alarms.remove(receiver) } }

    func settle() {
        withLock {
            while isRinging { unsafe pthread_cond_wait(isSettled, mutex) }
        }
    }

    private func makeThread() -> Bool {
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        defer { unsafe pthread_attr_destroy(&attributes) }
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        return unsafe pthread_create(&thread, &attributes, clockThreadMain, nil) == 0
    }

    fileprivate func run() {
        unsafe CVUSBShims_set_thread_name("vusb-clock")
        // By default Linux may wake a thread 50 us late, to wake several at once.
        CVUSBShims_set_timer_slack(1)
        RealTime.enter()
        unsafe pthread_mutex_lock(mutex)
        while true {
            while let receiver = alarms.takeDue(now()) { ring(receiver) }
            guard let due = alarms.first else {
                unsafe pthread_cond_wait(isSet, mutex)
                continue
            }
            var time = timespec(tv_sec: Int(due / 1_000_000_000), tv_nsec: Int(due % 1_000_000_000))
            unsafe pthread_cond_timedwait(isSet, mutex, &time)
        }
    }

    /// With the mutex, which it leaves meanwhile.
    private func ring(_ receiver: any AlarmReceiver) {
        isRinging = true
        unsafe pthread_mutex_unlock(mutex)
        receiver.alarmRang()
        unsafe pthread_mutex_lock(mutex)
        isRinging = false
        unsafe pthread_cond_broadcast(isSettled)
    }

    private func withLock<Result>(_ body: () -> Result) -> Result {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return body()
    }
}

/// File scope: a C function pointer.
private func clockThreadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    ClockThread.shared.run()
    return nil
}
