// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The timer of one opener of `clock`, and who waits for it. It is told the time and says what is to be done; the rows
/// are those of Clock.md. All times are nanoseconds of one clock.
struct ClockTimer {
    enum State: Equatable {
        case stopped
        case running(ClockGrid)
        /// The guest was unloaded, or the file is closed.
        case gone
    }

    /// What to say to a read.
    enum Answer {
        case line(ClockLine)
        case failed(Int32)
    }

    /// A read that waits.
    struct Waiter {
        let key: PendingReplies.Key
        let size: Int
    }

    /// Whether somebody is to be told when there is something to read. Also who was told that there is: epoll(7) by
    /// edges asks but once, and wants to hear of the next end.
    private enum Poller {
        case none
        /// Of the first end once there is a period.
        case waits
        /// Of an end that isn't before this.
        case waitsUntil(UInt64)
    }

    private(set) var state = State.stopped
    /// In the order in which they came.
    private var waiting: [Waiter] = []
    private var poller = Poller.none

    /// - Returns: 0 or an errno.
    mutating func set(_ command: ClockCommand, at now: UInt64) -> Int32 {
        guard state != .gone else { return ENODEV }
        switch command {
        case .stop: state = .stopped
        case .run(let period): state = .running(ClockGrid(start: now, period: period))
        }
        if isPolled { notePoller(at: now) }
        return 0
    }

    mutating func end() { state = .gone }

    /// Takes the last end that nobody has read. Nil where it has to wait.
    mutating func read(size: Int, at now: UInt64) -> Answer? {
        let answer = answer(size: size, at: now)
        if let answer { given(answer, at: now) }
        return answer
    }

    mutating func wait(_ waiter: Waiter) { waiting.append(waiter) }

    mutating func forget(_ key: PendingReplies.Key) { waiting.removeAll { $0.key == key } }

    /// The first who waits and what it gets, where it has to wait no longer. Nothing is taken before `given`.
    func due(at now: UInt64) -> (waiter: Waiter, answer: Answer)? {
        guard let first = waiting.first, let answer = answer(size: first.size, at: now) else { return nil }
        return (first, answer)
    }

    /// A read has got what was due: a line takes the end.
    mutating func given(_ answer: Answer, at now: UInt64) {
        guard case .line = answer, case .running(var periods) = state else { return }
        periods.take(at: now)
        state = .running(periods)
    }

    /// Events for poll(2). Who polls is noted.
    mutating func poll(at now: UInt64) -> UInt32 {
        if state == .gone { return PollEvents.readable | PollEvents.writable | PollEvents.gone }
        notePoller(at: now)
        return PollEvents.writable | (isReadable(at: now) ? PollEvents.readable : 0)
    }

    /// Whether the poller that was noted is to be told now; it's told once.
    mutating func takesNotice(at now: UInt64) -> Bool {
        guard isPolled else { return false }
        if state != .gone {
            guard case .waitsUntil(let time) = poller, now >= time else { return false }
            guard isReadable(at: now) else {
                // A read was faster.
                notePoller(at: now)
                return false
            }
        }
        poller = .none
        return true
    }

    /// When to look again; nil where nobody waits for an end.
    var alarm: UInt64? {
        guard case .running(let periods) = state else { return nil }
        let read = waiting.isEmpty ? UInt64.max : periods.nextEnd
        let poll = if case .waitsUntil(let time) = poller { time } else { UInt64.max }
        let next = min(read, poll)
        return next == .max ? nil : next
    }

    private var isPolled: Bool { if case .none = poller { false } else { true } }

    private mutating func notePoller(at now: UInt64) {
        poller = if case .running(let periods) = state { .waitsUntil(periods.end(after: now)) } else { .waits }
    }

    private func answer(size: Int, at now: UInt64) -> Answer? {
        switch state {
        case .stopped: return .failed(EINVAL)
        case .gone: return .failed(ENODEV)
        case .running(let periods):
            let unread = periods.unread(at: now)
            let line = ClockLine(time: now, missed: unread > 0 ? unread - 1 : 0)
            guard line.count <= size else { return .failed(EINVAL) }
            return unread > 0 ? .line(line) : nil
        }
    }

    private func isReadable(at now: UInt64) -> Bool {
        guard case .running(let periods) = state else { return false }
        return periods.unread(at: now) > 0
    }
}
