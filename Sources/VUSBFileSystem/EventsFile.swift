// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// A guest's `events`: one JSON object a line, from the moment of opening on. A read blocks until there is one.
///
/// Concurrency model: reader threads read and poll, the control plane's appends wake them; the position and the
/// waiting are in one `Mutex`, held across no call out.
final class EventsFile: OpenFile {
    private struct State: ~Copyable {
        var position: UInt64
        /// The rest of a line that was longer than the read.
        var rest: [UInt8] = []
        var waiting: [(key: PendingReplies.Key, size: Int)] = []
        var poller: PollHandle?
    }

    private let id: FileHandleID
    private let log: EventLog
    private let pending = PendingReplies()
    private let state: Mutex<State>
    private let observer = Mutex<UInt64?>(nil)

    init(id: FileHandleID, log: EventLog) {
        self.id = id
        self.log = log
        state = Mutex(State(position: log.endPosition))
        let observation = log.addObserver { [weak self] in self?.changed() }
        observer.withLock { $0 = observation }
    }

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        if let bytes = next(size) { return reply.data(bytes) }
        if isNonblocking { return reply.error(EAGAIN) }
        let registration = reply.interruptRegistration
        let key = pending.add(reply)
        registration.register(id)
        state.withLock { $0.waiting.append((key, size)) }
        if let reply = pending.park(key) { return reply.error(EINTR) }
        // Something may have come before the request was parked.
        changed()
    }

    func poll(_ reply: consuming FUSEReply, events: UInt32, handle: consuming sending PollHandle?) {
        var handle: PollHandle? = consume handle
        state.withLock { $0.poller = handle.take() }
        reply.poll(hasNext() ? PollEvents.readable : 0)
    }

    func abandon() { pending.answerAll(ENODEV) }

    func interrupted(_ request: UInt) {
        if case .answer(let reply) = pending.interrupted(request) { reply.error(EINTR) }
    }

    func closed() {
        if let observation = observer.withLock({ $0.take() }) { log.removeObserver(observation) }
        state.withLock { $0.poller = nil }
    }

    /// Answers those who wait, in order, as far as there is something to say.
    private func changed() {
        while let waiter = state.withLock({ $0.waiting.first }) {
            guard hasNext() else { break }
            guard let mine = state.withLock({ $0.waiting.first?.key == waiter.key ? $0.waiting.removeFirst() : nil })
            else { continue }
            answer(mine)
        }
        if let poller = state.withLock({ $0.poller.take() }) { poller.notify() }
    }

    private func answer(_ waiter: (key: PendingReplies.Key, size: Int)) {
        // Interrupted meanwhile: nothing is taken from the log.
        guard let reply = pending.take(waiter.key) else { return }
        reply.data(next(waiter.size) ?? [])
    }

    private func hasNext() -> Bool {
        let (position, hasRest) = state.withLock { ($0.position, !$0.rest.isEmpty) }
        if hasRest { return true }
        if case .none = log.line(at: position) { return false }
        return true
    }

    /// As many whole lines as fit, or as much of one as fits; empty at the end; nil while there is nothing.
    private func next(_ size: Int) -> [UInt8]? {
        var result: [UInt8] = []
        while result.count < size {
            let rest = state.withLock { state in
                defer { state.rest = [] }
                return state.rest
            }
            guard let line = rest.isEmpty ? advance() : rest else { break }
            if line.isEmpty { return result }
            if !result.isEmpty && result.count + line.count > size {
                state.withLock { $0.rest = line }
                break
            }
            let room = size - result.count
            result += line.prefix(room)
            state.withLock { $0.rest = Array(line.dropFirst(room)) }
        }
        return result.isEmpty ? nil : result
    }

    /// The next line; empty at the end of the log; nil while there is none.
    private func advance() -> [UInt8]? {
        let position = state.withLock { $0.position }
        switch log.line(at: position) {
        case .line(let line, let at):
            state.withLock { $0.position = at + 1 }
            return line
        case .none: return nil
        case .ended: return []
        }
    }
}
