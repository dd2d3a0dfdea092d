// SPDX-License-Identifier: Apache-2.0

/// The URBs of one device that have been accepted and not yet given back: slots with generations.
/// A value without a lock of its own; `VirtualDevice` guards it.
struct URBTable {
    /// How far a URB has come. The cases are those of Cancellation.md.
    enum Phase: Equatable {
        case free
        /// Accepted, and at the scheduler: the backend knows nothing of it yet.
        case held
        /// A cancel came while `held`: it never gets to the backend.
        case heldCancelled
        /// Accepted; the backend's `submit` hasn't returned.
        case submitting
        /// A cancel came while `submitting`: whoever submits passes it on.
        case submittingCancelled
        case inFlight
        /// The backend was asked to cancel.
        case cancelling
        /// Given back; the submitter's handler is running.
        case completing

        /// The backend is to end it, and hasn't.
        var isCancelledBelow: Bool { self == .cancelling || self == .submittingCancelled }
    }

    private struct Slot {
        var generation: UInt32 = 0
        var phase = Phase.free
        /// Calls of the backend's `submit` with it that haven't returned: two where it's given back and goes there again.
        var submits = 0
        var endpoint = EndpointAddress.control
        var nextFree = -1
        /// When `overdue` first found it cancelled; 0 before.
        var cancelSeen: UInt64 = 0
    }

    /// As many as one device may have in flight.
    static let limit = 4096

    private var slots: [Slot] = []
    private var firstFree = -1
    private(set) var count = 0
    /// URBs that the backend is to cancel, or is being asked to, and hasn't given back.
    private var cancelled = 0

    /// Takes a slot, or returns nil at the limit. No allocation once the table has grown to what is in use at once.
    mutating func insert(endpoint: EndpointAddress, as phase: Phase = .submitting) -> URBToken? {
        if firstFree < 0 {
            guard slots.count < Self.limit else { return nil }
            slots.append(Slot())
            firstFree = slots.count - 1
        }
        let index = firstFree
        firstFree = slots[index].nextFree
        slots[index].generation = slots[index].generation == .max ? 1 : slots[index].generation + 1
        slots[index].phase = phase
        slots[index].submits = phase == .submitting ? 1 : 0
        slots[index].endpoint = endpoint
        slots[index].cancelSeen = 0
        count += 1
        return URBToken(index: index, generation: slots[index].generation)
    }

    /// It goes from the scheduler to the backend; false where it was cancelled.
    mutating func begin(_ token: URBToken) -> Bool {
        guard isCurrent(token), slots[token.index].phase == .held else { return false }
        slots[token.index].phase = .submitting
        slots[token.index].submits = 1
        return true
    }

    /// The backend gave it back, and is to get it again. False where it was cancelled.
    mutating func again(_ token: URBToken) -> Bool {
        guard isWanted(token) else { return false }
        slots[token.index].phase = .submitting
        slots[token.index].submits += 1
        return true
    }

    /// Whether it's at the backend, or on its way there, and nobody has cancelled it.
    func isWanted(_ token: URBToken) -> Bool {
        isCurrent(token) && [.inFlight, .submitting].contains(slots[token.index].phase)
    }

    /// One that the backend has, of those on an endpoint. Not for the data path.
    func firstInFlight(on endpoint: EndpointAddress) -> URBToken? {
        slots.firstIndex { $0.phase == .inFlight && $0.endpoint == endpoint }
            .map { URBToken(index: $0, generation: slots[$0].generation) }
    }

    /// False where it was cancelled, or isn't at the scheduler any more.
    func isHeld(_ token: URBToken) -> Bool { isCurrent(token) && slots[token.index].phase == .held }

    /// The backend gave it back: nothing can be cancelled any more. False for a token that isn't in flight.
    mutating func complete(_ token: URBToken) -> Bool {
        guard isCurrent(token), slots[token.index].phase != .completing else { return false }
        if slots[token.index].phase.isCancelledBelow { cancelled -= 1 }
        slots[token.index].phase = .completing
        return true
    }

    /// Frees the slot, once its submitter has been told. False for a token that isn't current.
    mutating func remove(_ token: URBToken) -> Bool {
        guard isCurrent(token) else { return false }
        slots[token.index].phase = .free
        slots[token.index].nextFree = firstFree
        firstFree = token.index
        count -= 1
        return true
    }

    /// The backend's `submit` has returned. True where a cancel waited for that.
    mutating func submitted(_ token: URBToken) -> Bool {
        guard isCurrent(token) else { return false }
        slots[token.index].submits -= 1
        guard slots[token.index].submits == 0 else { return false }
        switch slots[token.index].phase {
        case .submitting:
            slots[token.index].phase = .inFlight
            return false
        case .submittingCancelled:
            slots[token.index].phase = .cancelling
            return true
        case .free, .held, .heldCancelled, .inFlight, .cancelling, .completing: return false
        }
    }

    /// Whom a cancel is to be passed on to now.
    enum CancelTarget {
        case backend
        case scheduler
        /// There is nothing to do, or the submitter will.
        case nobody
    }

    mutating func cancel(_ token: URBToken) -> CancelTarget {
        guard isCurrent(token) else { return .nobody }
        switch slots[token.index].phase {
        case .held:
            slots[token.index].phase = .heldCancelled
            return .scheduler
        case .submitting:
            slots[token.index].phase = .submittingCancelled
            cancelled += 1
            return .nobody
        case .inFlight:
            slots[token.index].phase = .cancelling
            cancelled += 1
            return .backend
        case .free, .heldCancelled, .submittingCancelled, .cancelling, .completing: return .nobody
        }
    }

    /// Marks all as cancelled and returns those that the scheduler has, and those whose backend is to be asked now.
    mutating func cancelAll() -> (held: [URBToken], inFlight: [URBToken]) {
        var held: [URBToken] = []
        var inFlight: [URBToken] = []
        for index in slots.indices {
            let token = URBToken(index: index, generation: slots[index].generation)
            switch cancel(token) {
            case .scheduler: held.append(token)
            case .backend: inFlight.append(token)
            case .nobody: break
            }
        }
        return (held, inFlight)
    }

    /// URBs that were found cancelled `limit` nanoseconds ago and haven't ended, and the endpoint of one of them. Those
    /// that it finds for the first time it marks.
    mutating func overdue(now: UInt64, limit: UInt64) -> (count: Int, endpoint: EndpointAddress) {
        var found = (count: 0, endpoint: EndpointAddress.control)
        guard cancelled > 0 else { return found }
        for index in slots.indices where slots[index].phase.isCancelledBelow {
            if slots[index].cancelSeen == 0 {
                slots[index].cancelSeen = max(1, now)
            } else if now >= slots[index].cancelSeen + limit {
                found = (found.count + 1, slots[index].endpoint)
            }
        }
        return found
    }

    /// URBs in flight on an endpoint: for `status`, not for the data path.
    func count(on endpoint: EndpointAddress) -> Int {
        slots.count { $0.phase != .free && $0.endpoint == endpoint }
    }

    private func isCurrent(_ token: URBToken) -> Bool {
        token.index < slots.count && slots[token.index].generation == token.generation
            && slots[token.index].phase != .free
    }
}
