// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// A guest's `events`: one JSON object a line, from the moment of opening on. A read blocks until there is one.
///
/// Concurrency model: reader threads read and poll, the control plane's appends wake them; the position and the
/// waiting are in one `Mutex`, held across no call out. Lock order: this one, then the log's.
final class EventsFile: WaitingFile {
    fileprivate struct State: ~Copyable {
        var position: UInt64
        /// The rest of a line that was longer than the read.
        var rest: [UInt8] = []
        var waiting: [(key: PendingReplies.Key, size: Int)] = []
    }

    let id: FileHandleID
    private let log: EventLog
    let pending = PendingReplies()
    private let poller = Poller()
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
        if let bytes = state.withLock({ $0.next(size, of: log) }) { return reply.data(bytes) }
        if isNonblocking { return reply.error(EAGAIN) }
        park(reply) { key in state.withLock { $0.waiting.append((key, size)) } }
        // Something may have come before the request was parked.
        changed()
    }

    func poll(_ reply: consuming FUSEReply, events: UInt32, handle: consuming sending PollHandle?) {
        poller.replace(handle)
        let hasNext = state.withLock { $0.hasNext(of: log) }
        reply.poll(hasNext ? PollEvents.readable : 0)
    }

    func closed() {
        if let observation = observer.withLock({ $0.take() }) { log.removeObserver(observation) }
        poller.replace(nil)
    }

    func forget(_ key: PendingReplies.Key) {
        state.withLock { state in state.waiting.removeAll { $0.key == key } }
    }

    /// Nor is the session told of later events: it is about to be freed.
    func abandon() {
        closed()
        pending.answerAll(ENODEV)
    }

    /// No URB ever waits here.
    func cancel(_ token: URBToken) {}

    /// Answers those who wait, in order, as far as there is something to say.
    private func changed() {
        while let (key, bytes) = state.withLock({ $0.serveNext(of: log) }) {
            if let reply = pending.take(key) {
                reply.data(bytes)
            } else {
                // Interrupted meanwhile: it is for the next reader.
                state.withLock { $0.rest = bytes + $0.rest }
            }
        }
        poller.notify()
    }
}

extension EventsFile.State {
    fileprivate func hasNext(of log: EventLog) -> Bool {
        if !rest.isEmpty { return true }
        if case .none = log.line(at: position) { return false }
        return true
    }

    /// The first who waits, and what it gets; nil while there is nothing, or nobody.
    fileprivate mutating func serveNext(of log: EventLog) -> (PendingReplies.Key, [UInt8])? {
        guard let first = waiting.first, let bytes = next(first.size, of: log) else { return nil }
        waiting.removeFirst()
        return (first.key, bytes)
    }

    /// As many whole lines as fit, or as much of one as fits; empty at the end; nil while there is nothing.
    fileprivate mutating func next(_ size: Int, of log: EventLog) -> [UInt8]? {
        var result: [UInt8] = []
        while result.count < size {
            guard let line = rest.isEmpty ? advance(log) : rest else { break }
            if line.isEmpty { return result }
            rest = []
            if !result.isEmpty && result.count + line.count > size {
                rest = line
                break
            }
            let room = size - result.count
            result += line.prefix(room)
            rest = Array(line.dropFirst(room))
        }
        return result.isEmpty ? nil : result
    }

    /// The next line; empty at the end of the log; nil while there is none.
    private mutating func advance(_ log: EventLog) -> [UInt8]? {
        switch log.line(at: position) {
        case .line(let line, let at):
            position = at + 1
            return line
        case .none: return nil
        case .ended: return []
        }
    }
}
