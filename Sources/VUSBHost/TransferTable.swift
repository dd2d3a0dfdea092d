// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore

/// The transfers of one device: those in flight by the index of their URB's token, and those that wait for the next.
///
/// Concurrency model: any thread; the state is in one `Mutex`, held across no call but those to a transfer's own slot
/// (lock order: table, then slot). It owns its transfers until `dispose`.
final class TransferTable: Sendable {
    fileprivate struct State {
        /// By the token's index; holds the newest where an older transfer of the same index still has a pin.
        var active: [HostTransfer?] = []
        var idle: [HostTransfer] = []
        var idleIsochronous: [HostTransfer] = []
        /// Keeps alive what has a pin and is nowhere else.
        var all: [HostTransfer] = []
        /// Transfers with a pin, by the endpoint's index.
        var pinned = [Int](repeating: 0, count: 32)
        /// Endpoints that take no URB now, a bit an index, and what URBs end with there.
        var closed: UInt32 = 0
        var closedStatus = URBStatus.shutdown
        var waiter: Semaphore?
    }

    private let state = Mutex(State())
    private let makeCarrier: @Sendable (_ isIsochronous: Bool) -> (any TransferCarrier)?

    static let allEndpoints: UInt32 = .max
    /// All but endpoint 0.
    static let dataEndpoints: UInt32 = ~(1 | 1 << 16)

    /// - Parameter makeCarrier: nil where there is no memory.
    init(makeCarrier: @escaping @Sendable (_ isIsochronous: Bool) -> (any TransferCarrier)?) {
        self.makeCarrier = makeCarrier
    }

    /// The transfers that somebody still works with. Zero when nothing is in flight: tests end with this.
    var inFlight: Int { state.withLock { $0.pinned.reduce(0, +) } }

    // MARK: - Data path

    func submit(_ urb: consuming URB) {
        let isIsochronous = urb.operation == .transfer(.isochronous)
        guard let transfer = takeIdle(isIsochronous) ?? make(isIsochronous) else {
            urb.complete(.noMemory)
            return
        }
        let token = urb.token
        let endpoint = urb.endpoint
        transfer.reserve(token, endpoint: endpoint)
        if let refusal = register(transfer, token, endpoint) {
            urb.complete(refusal)
        } else {
            transfer.submit(urb)
        }
    }

    func cancel(_ token: URBToken) {
        let transfer = state.withLock { state in
            token.index < state.active.count ? state.active[token.index] : nil
        }
        transfer?.cancel(token)
    }

    private func takeIdle(_ isIsochronous: Bool) -> HostTransfer? {
        state.withLock { isIsochronous ? $0.idleIsochronous.popLast() : $0.idle.popLast() }
    }

    private func make(_ isIsochronous: Bool) -> HostTransfer? {
        guard let carrier = makeCarrier(isIsochronous) else { return nil }
        let transfer = HostTransfer(carrier: carrier, isIsochronous: isIsochronous, table: self)
        state.withLock { $0.all.append(transfer) }
        return transfer
    }

    /// Nil, or why the endpoint takes nothing.
    private func register(_ transfer: HostTransfer, _ token: URBToken, _ endpoint: EndpointAddress) -> URBStatus? {
        state.withLock { state in
            guard state.closed & (1 << UInt32(endpoint.index)) == 0 else {
                state.putBack(transfer)
                return state.closedStatus
            }
            while state.active.count <= token.index { state.active.append(nil) }
            state.active[token.index] = transfer
            state.pinned[endpoint.index] += 1
            return nil
        }
    }

    /// The last pin is gone.
    func recycle(_ transfer: HostTransfer, token: URBToken, endpoint: EndpointAddress) {
        let waiter = state.withLock { state in
            if token.index < state.active.count, state.active[token.index] === transfer {
                state.active[token.index] = nil
            }
            state.pinned[endpoint.index] -= 1
            state.putBack(transfer)
            return state.waiter
        }
        waiter?.post()
    }

    // MARK: - Control plane; one caller at a time

    /// New URBs on these endpoints end with `status` until `open`, those in flight are cancelled and end with
    /// `ending`. Returns when all have, or false at the limit.
    func close(_ endpoints: UInt32, refusing status: URBStatus, ending: URBStatus, limit: Duration) -> Bool {
        let waiter = Semaphore()
        let active = state.withLock { state in
            state.closed |= endpoints
            state.closedStatus = status
            state.waiter = waiter
            return state.active.compactMap { $0 }
        }
        for transfer in active { transfer.cancelIfOn(endpoints, endingWith: ending) }
        let deadline = MonotonicTime.after(limit)
        var isInTime = true
        while isInTime && state.withLock({ $0.hasPinned(endpoints) }) { isInTime = waiter.wait(until: deadline) }
        return state.withLock { state in
            state.waiter = nil
            return !state.hasPinned(endpoints)
        }
    }

    func open(_ endpoints: UInt32) {
        state.withLock { $0.closed &= ~endpoints }
    }

    /// Frees the transfers; after `close` of all endpoints, in time.
    func dispose() {
        let all = state.withLock { state in
            state.idle = []
            state.idleIsochronous = []
            defer { state.all = [] }
            return state.all
        }
        // Their end is outside the lock.
        _ = consume all
    }
}

extension TransferTable.State {
    fileprivate mutating func putBack(_ transfer: HostTransfer) {
        if transfer.isIsochronous { idleIsochronous.append(transfer) } else { idle.append(transfer) }
    }

    fileprivate func hasPinned(_ endpoints: UInt32) -> Bool {
        pinned.indices.contains { pinned[$0] > 0 && endpoints & (1 << UInt32($0)) != 0 }
    }
}
