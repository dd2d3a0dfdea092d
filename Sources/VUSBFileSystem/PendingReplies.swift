// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// The requests on one open file that wait for an answer: each with the URB that will give it, or parked.
///
/// It decides the races of interrupt against submit and completion. libfuse tells an interrupt that came early from
/// inside the registration, with the request locked; answering there would free the request under libfuse's feet. So
/// a request begins as `preparing`, in which an interrupt only leaves a mark, and whoever prepares it answers.
/// The rows are F1-F6 of NodeProtocol.md.
///
/// Concurrency model: reader threads add and interrupt, completions take, on any thread; one `Mutex`, held across no
/// call out.
final class PendingReplies: Sendable {
    /// Index and generation; never 0.
    typealias Key = UInt64

    /// What is to be done about an interrupt.
    enum Interrupt: ~Copyable {
        case nothing
        case cancel(URBToken)
        /// Nobody else will answer; who keeps the key forgets it.
        case answer(FUSEReply, Key)
    }

    fileprivate enum Phase {
        case free
        case preparing(isInterrupted: Bool)
        case submitting(isInterrupted: Bool)
        case inFlight(URBToken)
        case parked
    }

    fileprivate struct Slot: ~Copyable {
        var generation: UInt32 = 0
        var phase = Phase.free
        var reply: FUSEReply?
    }

    private let slots = Mutex(SlotArray())

    /// Takes charge of the answer; `.preparing`.
    func add(_ reply: consuming sending FUSEReply) -> Key {
        var reply: FUSEReply? = consume reply
        return slots.withLock { $0.insert(reply.take()) }
    }

    /// The interrupt is registered; the URB comes next. Returns the reply if the request was interrupted already: the
    /// caller answers it and submits nothing.
    func beginSubmit(_ key: Key) -> FUSEReply? { advance(key, to: .submitting(isInterrupted: false)) }

    /// The interrupt is registered and no URB will answer: `takeParked` or an interrupt does. As `beginSubmit` else.
    func park(_ key: Key) -> FUSEReply? { advance(key, to: .parked) }

    /// `submit` has returned. True where the URB is to be cancelled now. A key that was taken is ignored.
    func submitted(_ key: Key, _ token: URBToken) -> Bool {
        slots.withLock { slots in
            guard let index = slots.index(of: key), case .submitting(let isInterrupted) = slots[index].phase else {
                return false
            }
            slots[index].phase = .inFlight(token)
            return isInterrupted
        }
    }

    /// Whoever has something to answer takes the reply; nil where it was answered before.
    func take(_ key: Key) -> FUSEReply? {
        slots.withLock { slots in slots.index(of: key).flatMap { slots.remove($0) } }
    }

    /// Answers all with an error: nobody else will find them.
    func answerAll(_ errno: Int32) {
        while let reply = slots.withLock({ $0.removeAny() }) { reply.error(errno) }
    }

    func interrupted(_ request: UInt) -> Interrupt {
        slots.withLock { slots in
            guard let index = slots.index(ofRequest: request) else { return .nothing }
            switch slots[index].phase {
            case .free: return .nothing
            case .preparing: slots[index].phase = .preparing(isInterrupted: true)
            case .submitting: slots[index].phase = .submitting(isInterrupted: true)
            case .inFlight(let token): return .cancel(token)
            case .parked:
                let key = slots.key(of: index)
                if let reply = slots.remove(index) { return .answer(reply, key) }
            }
            return .nothing
        }
    }

    private func advance(_ key: Key, to phase: Phase) -> FUSEReply? {
        slots.withLock { slots in
            guard let index = slots.index(of: key), case .preparing(let isInterrupted) = slots[index].phase else {
                return nil
            }
            if isInterrupted { return slots.remove(index) }
            slots[index].phase = phase
            return nil
        }
    }
}

/// Slots for values that can't be copied; they are reused, so that nothing is allocated once there are enough.
@safe
private struct SlotArray: ~Copyable, @unchecked Sendable {
    // SAFETY: the memory has this value as its only owner; `PendingReplies` guards it with a Mutex.
    private var base: UnsafeMutablePointer<PendingReplies.Slot>?
    private var capacity = 0

    deinit {
        unsafe base?.deinitialize(count: capacity)
        unsafe base?.deallocate()
    }

    subscript(index: Int) -> PendingReplies.Slot {
        _read {
            guard let base = unsafe base, index >= 0, index < capacity else { preconditionFailure("no such slot") }
            yield unsafe base[index]
        }
        _modify {
            guard let base = unsafe base, index >= 0, index < capacity else { preconditionFailure("no such slot") }
            yield unsafe &base[index]
        }
    }

    func index(of key: PendingReplies.Key) -> Int? {
        let index = Int(UInt32(truncatingIfNeeded: key))
        guard index < capacity, self[index].generation == UInt32(key >> 32) else { return nil }
        if case .free = self[index].phase { return nil }
        return index
    }

    func index(ofRequest identity: UInt) -> Int? {
        for index in 0..<capacity {
            switch self[index].reply {
            case .some(let reply): if reply.identity == identity { return index }
            case .none: continue
            }
        }
        return nil
    }

    mutating func insert(_ reply: consuming FUSEReply?) -> PendingReplies.Key {
        let index = firstFree()
        // Below 2^31: the top bit of a key is its owner's to use.
        self[index].generation = self[index].generation == UInt32(Int32.max) ? 1 : self[index].generation + 1
        self[index].phase = .preparing(isInterrupted: false)
        self[index].reply = consume reply
        return key(of: index)
    }

    func key(of index: Int) -> PendingReplies.Key { UInt64(self[index].generation) << 32 | UInt64(index) }

    mutating func remove(_ index: Int) -> FUSEReply? {
        self[index].phase = .free
        return self[index].reply.take()
    }

    mutating func removeAny() -> FUSEReply? {
        for index in 0..<capacity {
            if let reply = remove(index) { return reply }
        }
        return nil
    }

    /// Files have few requests at once: a scan is cheaper than a list of free slots.
    private mutating func firstFree() -> Int {
        for index in 0..<capacity {
            if case .free = self[index].phase { return index }
        }
        let larger = max(4, capacity * 2)
        let memory = UnsafeMutablePointer<PendingReplies.Slot>.allocate(capacity: larger)
        if let base = unsafe base {
            unsafe memory.moveInitialize(from: base, count: capacity)
            unsafe base.deallocate()
        }
        for index in capacity..<larger { unsafe (memory + index).initialize(to: PendingReplies.Slot()) }
        defer { capacity = larger }
        unsafe base = memory
        return capacity
    }
}
