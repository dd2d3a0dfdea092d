// SPDX-License-Identifier: Apache-2.0

internal import DequeModule
internal import VUSBCore

/// Where a transfer is that the peer waits for.
enum RedirPlace: Equatable {
    case slot(Int)
    /// It's refused, and the answer waits for its turn among those of the endpoint with this index.
    case refused(Int)
}

/// The order of an endpoint's answers: that of the requests, whatever ended first. QEMU takes the first transfer of an
/// endpoint for the one that is answered, and ends itself where it isn't.
struct RedirOrder {
    enum Entry: Equatable {
        case slot(Int)
        /// Nothing was submitted.
        case refusal(RedirTransfer, RedirStatusCode)
    }

    /// By the endpoint's index.
    private var entries: [Deque<Entry>] = Array(repeating: [], count: 32)

    /// - Returns: false where too many wait already.
    mutating func append(_ entry: Entry, at index: Int) -> Bool {
        guard entries[index].count < RedirLimits.waitingAnswers else { return false }
        entries[index].append(entry)
        return true
    }

    func first(at index: Int) -> Entry? { entries[index].first }

    mutating func removeFirst(at index: Int) { _ = entries[index].popFirst() }

    mutating func remove(_ slot: Int, at index: Int) { entries[index].removeAll { $0 == .slot(slot) } }

    mutating func takeRefusal(_ id: UInt64, at index: Int) -> RedirTransfer? {
        for (position, entry) in entries[index].enumerated() {
            guard case .refusal(let transfer, _) = entry, transfer.id == id else { continue }
            entries[index].remove(at: position)
            return transfer
        }
        return nil
    }

    /// Empties it; the slots that were in it.
    mutating func takeSlots() -> [Int] {
        defer { for index in entries.indices { entries[index] = [] } }
        return entries.joined().compactMap { if case .slot(let slot) = $0 { slot } else { nil } }
    }
}

extension RedirTransfer {
    /// The endpoint among whose transfers it has its place; nil where it has none. Those of streams have none, and
    /// QEMU waits for one control transfer before it sends the next.
    fileprivate var orderIndex: Int? { kind == .bulk(streamID: 0) ? address.index : nil }
}

extension RedirSession.State {
    /// From here on the answers to later transfers wait for this one's.
    /// - Returns: false where too many wait.
    mutating func begin(_ transfer: RedirTransfer, _ slot: Int) -> Bool {
        guard let index = transfer.orderIndex else { return true }
        return order.append(.slot(slot), at: index)
    }

    /// The transfer in the slot has ended, and its answer is there.
    mutating func finish(_ slot: Int, _ transfer: RedirTransfer) {
        slots[slot].phase = .finished
        guard let index = transfer.orderIndex else { return send(slot) }
        sendFinished(at: index)
    }

    /// The answer to a transfer that isn't submitted.
    /// - Returns: false where too many wait.
    mutating func refuse(_ transfer: RedirTransfer, _ status: RedirStatusCode) -> Bool {
        guard let index = transfer.orderIndex, order.first(at: index) != nil else {
            answer(transfer, status)
            return true
        }
        ids[transfer.id] = .refused(index)
        return order.append(.refusal(transfer, status), at: index)
    }

    /// Nobody waits for the transfer any more; the answer to its cancel is sent out of turn. One that isn't there has
    /// been answered already.
    /// - Returns: what is to be cancelled.
    mutating func cancel(_ id: UInt64) -> URBToken? {
        switch ids.removeValue(forKey: id) {
        case .slot(let slot):
            guard case .transfer(let transfer) = slots[slot].purpose else { return nil }
            if slots[slot].phase == .finished {
                recall(slot, transfer)
            } else {
                slots[slot].isAnswered = true
                answer(transfer, .cancelled)
            }
            leaveOrder(slot, transfer)
            return slots.cancel(slot)
        case .refused(let index):
            if let transfer = order.takeRefusal(id, at: index) { answer(transfer, .cancelled) }
            return nil
        case nil: return nil
        }
    }

    /// What has ended and waits for its turn is answered as cancelled; its data go nowhere.
    private mutating func recall(_ slot: Int, _ transfer: RedirTransfer) {
        let header = RedirHeader(answering: transfer, .cancelled, length: 0, dataCount: 0, form)
        slots.setHeader(header, of: slot)
        slots[slot].dataCount = 0
        slots[slot].byteCount = header.count
        send(slot)
    }

    private mutating func leaveOrder(_ slot: Int, _ transfer: RedirTransfer) {
        guard let index = transfer.orderIndex else { return }
        order.remove(slot, at: index)
        sendFinished(at: index)
    }

    /// What waits for its turn is dropped with what waits to be sent.
    mutating func endOrder() {
        for slot in order.takeSlots() where slots[slot].phase == .finished { send(slot) }
    }

    private mutating func sendFinished(at index: Int) {
        while let entry = order.first(at: index) {
            switch entry {
            case .slot(let slot):
                guard slots[slot].phase == .finished else { return }
                send(slot)
            case .refusal(let transfer, let status):
                ids[transfer.id] = nil
                answer(transfer, status)
            }
            order.removeFirst(at: index)
        }
    }

    private mutating func answer(_ transfer: RedirTransfer, _ status: RedirStatusCode) {
        let header = RedirHeader(answering: transfer, status, length: 0, dataCount: 0, form)
        guard let bytes = RedirBytes(copying: header) else { return }
        append(bytes)
    }
}
