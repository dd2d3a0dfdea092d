// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// One opener of a guest's `clock`: reads wait for the ends of its timer's periods.
///
/// Concurrency model: reader threads read, write and poll, the clock's thread rings, the control plane shuts. The timer
/// is in one `Mutex`, held across no call out; `pending` decides who answers a read that waits. Lock order: the
/// timer's, then that of `pending`.
final class ClockFile: WaitingFile, AlarmReceiver {
    let id: FileHandleID
    let pending = PendingReplies()
    private let openers: ClockOpeners
    private let clock: any FileClock
    private let poller = Poller()
    private let timer = Mutex(ClockTimer())

    init(id: FileHandleID, openers: ClockOpeners, clock: any FileClock) {
        self.id = id
        self.openers = openers
        self.clock = clock
    }

    /// Its timer has ended: the guest was unloaded.
    var isGone: Bool { timer.withLock { $0.state == .gone } }

    // MARK: - Requests

    func write(_ reply: consuming sending FUSEReply, _ data: borrowing WriteData, isNonblocking: Bool) {
        // One byte more, so that what is too long is seen to be.
        guard let command = ClockCommand(data.prefix(ClockCommand.byteLimit + 1)) else { return reply.error(EINVAL) }
        let now = clock.now()
        let errno = timer.withLock { $0.set(command, at: now) }
        guard errno == 0 else { return reply.error(errno) }
        // Before the answer: whoever has it finds the timer at work for all who waited already.
        look()
        reply.written(data.count)
    }

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        let now = clock.now()
        if let answer = timer.withLock({ $0.read(size: size, at: now) }) { return give(answer, to: reply) }
        if isNonblocking { return reply.error(EAGAIN) }
        park(reply) { key in timer.withLock { $0.wait(ClockTimer.Waiter(key: key, size: size)) } }
        // The period may have ended before the read was parked.
        look()
    }

    func poll(_ reply: consuming FUSEReply, events: UInt32, handle: consuming sending PollHandle?) {
        poller.replace(handle)
        let now = clock.now()
        reply.poll(timer.withLock { $0.poll(at: now) })
        look()
    }

    func forget(_ key: PendingReplies.Key) { timer.withLock { $0.forget(key) } }

    /// No URB ever waits here.
    func cancel(_ token: URBToken) {}

    func closed() {
        timer.withLock { $0.end() }
        clock.forget(self)
        openers.remove(id)
        poller.replace(nil)
    }

    func abandon() {
        closed()
        pending.answerAll(ENODEV)
    }

    // MARK: - Time

    /// The guest is unloaded (row K14).
    func shut() {
        timer.withLock { $0.end() }
        clock.forget(self)
        look()
    }

    func alarmRang() { look() }

    /// Answers and tells whoever there is something for, and has the clock ring for those who still wait.
    private func look() {
        let now = clock.now()
        while let next = timer.withLock({ takeDue(&$0, at: now) }) { give(next.answer, to: next.reply) }
        let (isNoticed, alarm) = timer.withLock { ($0.takesNotice(at: now), $0.alarm) }
        if isNoticed { poller.notify() }
        if let alarm { clock.wake(self, at: alarm) }
    }

    private struct Given: ~Copyable {
        let reply: FUSEReply
        let answer: ClockTimer.Answer
    }

    /// With the timer's lock: who was interrupted meanwhile takes no end (row K12).
    private func takeDue(_ timer: inout ClockTimer, at now: UInt64) -> sending Given? {
        while let (waiter, answer) = timer.due(at: now) {
            timer.forget(waiter.key)
            guard let reply = pending.take(waiter.key) else { continue }
            timer.given(answer, at: now)
            return Given(reply: reply, answer: answer)
        }
        return nil
    }

    private func give(_ answer: ClockTimer.Answer, to reply: consuming FUSEReply) {
        switch answer {
        case .line(let line): reply.data(line)
        case .failed(let errno): reply.error(errno)
        }
    }
}
