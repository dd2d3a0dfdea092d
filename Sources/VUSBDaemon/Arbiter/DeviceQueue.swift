// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Who waits for which device: the more important guest first, then who came first. A value without a lock of its own;
/// `ControlPlane` guards it.
struct DeviceQueue: Sendable {
    struct Waiter: Sendable {
        let operation: Int
        /// What it waits for: another device may come to the same port.
        let device: DeviceIdentity
        let guest: String
        let priority: Int
        /// Opened when there is news of the device; one wait each.
        var news = Gate()
    }

    private var waiters: [DeviceID: [Waiter]] = [:]

    mutating func join(_ id: DeviceID, _ waiter: Waiter) {
        var queue = waiters[id, default: []]
        let place = queue.firstIndex { $0.priority < waiter.priority } ?? queue.endIndex
        queue.insert(waiter, at: place)
        waiters[id] = queue
    }

    mutating func leave(_ id: DeviceID, operation: Int) {
        waiters[id]?.removeAll { $0.operation == operation }
        if waiters[id]?.isEmpty == true { waiters[id] = nil }
    }

    /// - Returns: whose queues it was in, also of devices that aren't there.
    mutating func leaveAll(operation: Int) -> [DeviceID] {
        let ids = waiters.filter { $0.value.contains { $0.operation == operation } }.map(\.key)
        for id in ids { leave(id, operation: operation) }
        return ids
    }

    func first(for id: DeviceID, where isReady: (Waiter) -> Bool = { _ in true }) -> Waiter? {
        waiters[id]?.first(where: isReady)
    }

    /// Whether the guest waits for any device.
    func has(guest: String) -> Bool { waiters.values.joined().contains { $0.guest == guest } }

    /// In their order.
    func guests(for id: DeviceID) -> [String] { waiters[id, default: []].map(\.guest) }

    func identity(of operation: Int, at id: DeviceID) -> DeviceIdentity? {
        waiters[id]?.first { $0.operation == operation }?.device
    }

    /// What to wait at for the next news.
    mutating func gate(_ id: DeviceID, operation: Int) -> Gate {
        let gate = Gate()
        guard let index = waiters[id]?.firstIndex(where: { $0.operation == operation }) else {
            gate.open()
            return gate
        }
        waiters[id]?[index].news = gate
        return gate
    }

    /// All look anew: who is first may have changed with the device.
    func tell(_ id: DeviceID) { for waiter in waiters[id, default: []] { waiter.news.open() } }

    /// A guest has come or gone.
    func tell(guest: String) {
        for waiter in waiters.values.joined() where waiter.guest == guest { waiter.news.open() }
    }
}
