// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBTestSupport

/// A bus of a fixed rate, in the time of a `ManualClock`: carries one packet after the other.
///
/// Concurrency model: one thread, the test's; the `Mutex` is for the compiler, and left before a URB is completed.
final class SimulatedBus: Sendable {
    /// Which transfer has the next packet.
    enum Order {
        /// Each endpoint in turn, as host controllers do.
        case turns
        /// The oldest one: the worst that an urgent one can meet.
        case oldestFirst
    }

    private struct Transfer {
        let urb: ManualCompletion
        let device: Int
        /// Interrupt transfers begin at a microframe, and go first.
        let notBefore: UInt64
        let isPeriodic: Bool
        var remaining: Int
    }

    private struct State {
        var transfers: [Transfer] = []
        var lastDevice = 0
        var carried = 0
    }

    let clock: ManualClock
    let bytesPerSecond: Int
    private let order: Order
    private let state = Mutex(State())
    /// A burst, so that there are fewer to simulate.
    private static let packet = 2048
    private static let microframe: UInt64 = 125_000

    init(_ order: Order, bytesPerSecond: Int, clock: ManualClock) {
        self.order = order
        self.bytesPerSecond = bytesPerSecond
        self.clock = clock
    }

    var carried: Int { state.withLock { $0.carried } }

    func backend(_ device: Int) -> any USBBackend { Port(bus: self, device: device) }

    fileprivate func add(_ urb: consuming URB, of device: Int) {
        let isPeriodic = urb.operation == .transfer(.interrupt)
        let now = clock.now()
        let transfer = Transfer(
            urb: ManualCompletion(urb), device: device,
            notBefore: isPeriodic ? (now / Self.microframe + 1) * Self.microframe : now, isPeriodic: isPeriodic,
            remaining: 0)
        state.withLock { state in
            state.transfers.append(transfer)
            state.transfers[state.transfers.count - 1].remaining = transfer.urb.requestedLength
        }
    }

    /// Carries one packet, or lets 20 us pass where there is none.
    func step() {
        let now = clock.now()
        let index = state.withLock { next(&$0, now) }
        guard let index else { return clock.advance(by: .microseconds(20)) }
        let count = state.withLock { min(Self.packet, $0.transfers[index].remaining) }
        clock.advance(by: .nanoseconds(count * 1_000_000_000 / bytesPerSecond))
        let ended = state.withLock { state -> ManualCompletion? in
            state.carried += count
            state.transfers[index].remaining -= count
            guard state.transfers[index].remaining <= 0 else { return nil }
            return state.transfers.remove(at: index).urb
        }
        ended?.complete(.success, actualLength: ended?.requestedLength)
    }

    private func next(_ state: inout State, _ now: UInt64) -> Int? {
        var chosen: Int?
        for index in state.transfers.indices where state.transfers[index].notBefore <= now {
            if state.transfers[index].isPeriodic { return index }
            guard let best = chosen else {
                chosen = index
                continue
            }
            guard order == .turns else { continue }
            // The next device behind the last one, and of that the oldest.
            if turn(state.transfers[index], state.lastDevice) < turn(state.transfers[best], state.lastDevice) {
                chosen = index
            }
        }
        if let chosen { state.lastDevice = state.transfers[chosen].device }
        return chosen
    }

    private func turn(_ transfer: Transfer, _ last: Int) -> Int { (transfer.device + 63 - last) % 64 }

    private final class Port: USBBackend {
        private let bus: SimulatedBus
        private let device: Int

        init(bus: SimulatedBus, device: Int) {
            self.bus = bus
            self.device = device
        }

        func submit(_ urb: consuming URB) { bus.add(urb, of: device) }
        func cancel(_ token: URBToken) {}
        func reset() async throws(USBError) {}
        func close() async {}
    }
}
