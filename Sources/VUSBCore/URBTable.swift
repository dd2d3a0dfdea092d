// SPDX-License-Identifier: Apache-2.0

/// The URBs of one device that have been accepted and not yet given back: slots with generations.
/// A value without a lock of its own; `VirtualDevice` guards it.
struct URBTable {
    /// How far a URB has come. The cases are those of Cancellation.md.
    enum Phase: Equatable {
        case free
        /// Accepted; the backend's `submit` hasn't returned.
        case submitting
        /// A cancel came while `submitting`: whoever submits passes it on.
        case submittingCancelled
        case inFlight
        /// The backend was asked to cancel.
        case cancelling
        /// Given back; the submitter's handler is running.
        case completing
    }

    private struct Slot {
        var generation: UInt32 = 0
        var phase = Phase.free
        var endpoint = EndpointAddress.control
        var nextFree = -1
    }

    /// As many as one device may have in flight.
    static let limit = 4096

    private var slots: [Slot] = []
    private var firstFree = -1
    private(set) var count = 0

    /// Takes a slot, or returns nil at the limit. No allocation once the table has grown to what is in use at once.
    mutating func insert(endpoint: EndpointAddress) -> URBToken? {
        if firstFree < 0 {
            guard slots.count < Self.limit else { return nil }
            slots.append(Slot())
            firstFree = slots.count - 1
        }
        let index = firstFree
        firstFree = slots[index].nextFree
        slots[index].generation = slots[index].generation == .max ? 1 : slots[index].generation + 1
        slots[index].phase = .submitting
        slots[index].endpoint = endpoint
        count += 1
        return URBToken(index: index, generation: slots[index].generation)
    }

    /// The backend gave it back: nothing can be cancelled any more. False for a token that isn't in flight.
    mutating func complete(_ token: URBToken) -> Bool {
        guard isCurrent(token), slots[token.index].phase != .completing else { return false }
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
        switch slots[token.index].phase {
        case .submitting:
            slots[token.index].phase = .inFlight
            return false
        case .submittingCancelled:
            slots[token.index].phase = .cancelling
            return true
        case .free, .inFlight, .cancelling, .completing: return false
        }
    }

    /// True where the backend is to be asked now; false where there is nothing to do or the submitter will.
    mutating func cancel(_ token: URBToken) -> Bool {
        guard isCurrent(token) else { return false }
        switch slots[token.index].phase {
        case .submitting:
            slots[token.index].phase = .submittingCancelled
            return false
        case .inFlight:
            slots[token.index].phase = .cancelling
            return true
        case .free, .submittingCancelled, .cancelling, .completing: return false
        }
    }

    /// Marks all as cancelled and returns those whose backend is to be asked now.
    mutating func cancelAll() -> [URBToken] {
        slots.indices.compactMap { index in
            let token = URBToken(index: index, generation: slots[index].generation)
            return cancel(token) ? token : nil
        }
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
