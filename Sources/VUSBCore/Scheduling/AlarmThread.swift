// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The monotonic clock, and one thread that waits on it for all schedulers of the process.
///
/// Concurrency model: any thread sets an alarm. The thread is started with the first and never ends; without an alarm
/// it sleeps without a deadline. The alarms are behind the pthread mutex (`Mutex` has no condition to wait for), which
/// is held across no call to a receiver. Lock order: none, it is a leaf.
@safe
package final class AlarmThread: AlarmClock, @unchecked Sendable {
    package static let shared = AlarmThread()

    private struct Alarm {
        var time: UInt64
        let receiver: any AlarmReceiver
    }

    // SAFETY: both are initialised in init and live as long as the process, as `shared` does.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // SAFETY: guarded by `mutex`. One for each scheduler at most, so that a search is short.
    private var alarms: [Alarm] = []
    private var isRunning = false

    private init() {
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

    package func now() -> UInt64 {
        var time = timespec()
        // It can't fail for this clock and a valid pointer.
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    package func wake(_ receiver: any AlarmReceiver, at time: UInt64) {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        if let index = alarms.firstIndex(where: { $0.receiver === receiver }) {
            guard time < alarms[index].time else { return }
            alarms[index].time = time
        } else {
            alarms.append(Alarm(time: time, receiver: receiver))
        }
        if isRunning { unsafe pthread_cond_signal(condition) } else { isRunning = start() }
    }

    /// Where there is no thread to be had, the next alarm tries again; URBs that end go on releasing others meanwhile.
    private func start() -> Bool {
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        defer { unsafe pthread_attr_destroy(&attributes) }
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        return unsafe pthread_create(&thread, &attributes, alarmThreadMain, nil) == 0
    }

    fileprivate func run() {
        RealTime.enter()
        unsafe pthread_mutex_lock(mutex)
        while true {
            guard let index = alarms.indices.min(by: { alarms[$0].time < alarms[$1].time }) else {
                unsafe pthread_cond_wait(condition, mutex)
                continue
            }
            let due = alarms[index].time
            if due > now() {
                var time = timespec(tv_sec: Int(due / 1_000_000_000), tv_nsec: Int(due % 1_000_000_000))
                unsafe pthread_cond_timedwait(condition, mutex, &time)
                continue
            }
            let alarm = alarms.remove(at: index)
            unsafe pthread_mutex_unlock(mutex)
            alarm.receiver.alarmRang()
            unsafe pthread_mutex_lock(mutex)
        }
    }
}

/// File scope: a C function pointer.
private func alarmThreadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    AlarmThread.shared.run()
    return nil
}
