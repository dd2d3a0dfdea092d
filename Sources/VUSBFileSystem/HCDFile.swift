// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// `hcd`, opened by a guest's module. Writes are carried out at once. A read is answered at once where there is
/// something to say, else by whoever has something first: a completion, the control plane, the clock, an interrupt.
///
/// Concurrency model: reader threads write, read and poll, any thread has something to say. `pending` decides who
/// answers a read; which one waits is in one `Mutex`, held across no call out. Who finds a record to be said while
/// another thread answers leaves it to that one, which looks again when it's done.
final class HCDFile: WaitingFile, HCDReader, HCDClockFile {
    private enum Waiting {
        case none
        /// It's being parked.
        case preparing
        case parked(PendingReplies.Key, size: Int, deadline: UInt64)
    }

    let id: FileHandleID
    let pending = PendingReplies()
    private let channel: HCDChannel
    private let session: HCDSession
    private let clock: HCDClock
    private let poller = Poller()
    private let waiting = Mutex(Waiting.none)

    init(id: FileHandleID, channel: HCDChannel, session: HCDSession, clock: HCDClock) {
        self.id = id
        self.channel = channel
        self.session = session
        self.clock = clock
        clock.add(self, id)
        session.setReader(self)
    }

    // MARK: - Requests

    func write(_ reply: consuming sending FUSEReply, _ data: borrowing WriteData, isNonblocking: Bool) {
        let count = data.count
        let errno = session.write(data)
        guard errno == 0 else { return reply.error(errno) }
        reply.written(count)
    }

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        switch session.beginRead() {
        case .output(let output):
            answer(reply, output, size: size)
            // Another read may have found this thread at it.
            serve()
        case .empty: reply.data([])
        case .failed(let errno): reply.error(errno)
        // Exporters read on behind a short answer until one is empty: what they have already mustn't wait for what comes
        // next, since somebody waits for them.
        case .nothing where offset > 0: reply.data([])
        case .nothing where isNonblocking: reply.error(EAGAIN)
        case .nothing: wait(reply, size: size)
        }
    }

    func poll(_ reply: consuming FUSEReply, events: UInt32, handle: consuming sending PollHandle?) {
        poller.replace(handle)
        let state = session.status.state
        let isGone = state == .broken || state == .closed
        reply.poll(
            (session.isReadable ? PollEvents.readable : 0) | PollEvents.writable | (isGone ? PollEvents.gone : 0))
    }

    func forget(_ key: PendingReplies.Key) {
        waiting.withLock { waiting in
            if case .parked(key, _, _) = waiting { waiting = .none }
        }
    }

    /// No URB's token is ever kept here.
    func cancel(_ token: URBToken) {}

    func closed() {
        clock.remove(id)
        channel.close(session)
        poller.replace(nil)
    }

    func abandon() {
        closed()
        pending.answerAll(ENODEV)
    }

    // MARK: - Answers

    func channelChanged() {
        serve()
        poller.notify()
    }

    func waitChanged(_ wait: UInt32) {
        let latest = HCDClock.now + UInt64(wait) * 1000
        let isShortened = waiting.withLock { waiting in
            guard case .parked(let key, let size, let deadline) = waiting, deadline > latest else { return false }
            waiting = .parked(key, size: size, deadline: latest)
            return true
        }
        if isShortened { clock.ring(by: latest) }
    }

    func timeReached(_ now: UInt64) -> UInt64 {
        let (key, next) = waiting.withLock { waiting -> (PendingReplies.Key?, UInt64) in
            guard case .parked(let key, _, let deadline) = waiting else { return (nil, .max) }
            guard deadline <= now else { return (nil, deadline) }
            waiting = .none
            return (key, .max)
        }
        // Nil where it was interrupted.
        if let key, let reply = pending.take(key) { reply.data([]) }
        return next
    }

    private func wait(_ reply: consuming sending FUSEReply, size: Int) {
        let time = session.wait
        guard time > 0 else { return reply.data([]) }
        let isFree = waiting.withLock { waiting in
            guard case .none = waiting else { return false }
            waiting = .preparing
            return true
        }
        // Two reads at once would get pieces of a stream without an order.
        guard isFree else { return reply.error(EBUSY) }
        let deadline = HCDClock.now + UInt64(time) * 1000
        park(reply) { key in waiting.withLock { $0 = .parked(key, size: size, deadline: deadline) } }
        clock.ring(by: deadline)
        // Something may have come before it was parked, and so may another time to wait.
        let latest = session.wait
        if latest != time { waitChanged(latest) }
        serve()
    }

    private func serve() {
        while isAwaited {
            switch session.beginRead() {
            case .nothing: return
            case .output(let output):
                if let waiter = takeWaiting() {
                    answer(waiter.reply, output, size: waiter.size)
                } else {
                    session.endRead(output)
                }
            case .empty: if let waiter = takeWaiting() { waiter.reply.data([]) }
            case .failed(let errno): if let waiter = takeWaiting() { waiter.reply.error(errno) }
            }
        }
    }

    private func answer(_ reply: consuming FUSEReply, _ output: consuming HCDOutput, size: Int) {
        session.fill(&output, size: size)
        // SAFETY: the output's memory lives until endRead.
        let isDelivered = unsafe reply.gathered(output.pieces)
        session.endRead(output, isDelivered: isDelivered)
    }

    private var isAwaited: Bool {
        waiting.withLock { waiting in if case .parked = waiting { true } else { false } }
    }

    /// Nil where nobody waits, or who did was interrupted.
    private func takeWaiting() -> Waiter? {
        let taken = waiting.withLock { waiting -> (PendingReplies.Key, Int)? in
            guard case .parked(let key, let size, _) = waiting else { return nil }
            waiting = .none
            return (key, size)
        }
        guard let taken, let reply = pending.take(taken.0) else { return nil }
        return Waiter(reply: reply, size: taken.1)
    }

    private struct Waiter: ~Copyable {
        let reply: FUSEReply
        let size: Int
    }
}
