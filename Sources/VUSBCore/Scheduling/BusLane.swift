// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The part of a lane that is read without the scheduler's lock.
final class LaneGate: Sendable {
    private let open = Atomic<Bool>(true)
    /// Told on the thread that lets the URB pass, with no lock held.
    let onPassedOver: (@Sendable (Duration) -> Void)?

    init(onPassedOver: (@Sendable (Duration) -> Void)?) { self.onPassedOver = onPassedOver }

    /// Nobody competes and nothing limits: URBs pass uncounted. Acquiring, and releasing below: who reads that it's
    /// open comes behind what this lane held back before.
    var isOpen: Bool { open.load(ordering: .acquiring) }

    /// Under the scheduler's lock.
    func set(open isOpen: Bool) { open.store(isOpen, ordering: .releasing) }
}

/// One attachment's way to the bus: given to its `VirtualDevice`, which asks before each URB.
///
/// Concurrency model: any thread. It has no state of its own; what its scheduler keeps of it is behind that one's lock.
package final class BusLane: Sendable {
    /// For `status`.
    package struct Status: Sendable, Equatable {
        /// Held back now.
        package internal(set) var queued = 0
        /// That were ever held back.
        package internal(set) var heldTotal: UInt64 = 0
        /// Of those that passed.
        package internal(set) var longestWait: Duration = .zero
    }

    package static let priorities = 0...99

    private let scheduler: BusScheduler
    private let id: Int
    private let gate: LaneGate
    private let limits: GuestLimits?

    /// - Parameters:
    ///   - priority: 0 to 99, the most important; clamped.
    ///   - limits: the guest's, shared by all of its lanes.
    ///   - onPassedOver: told how long a URB was held back, where one of a more important guest went before it. At
    ///     most once a second, then the longest since the last time. It must not block.
    package init(
        _ scheduler: BusScheduler,
        priority: Int,
        limits: GuestLimits? = nil,
        onPassedOver: (@Sendable (Duration) -> Void)? = nil
    ) {
        self.scheduler = scheduler
        self.limits = limits
        gate = LaneGate(onPassedOver: onPassedOver)
        id = scheduler.join(LaneState(gate: gate, limits: limits, priority: Self.clamped(priority)))
    }

    /// No URB is left by now: each holds its device, and that its lane.
    deinit { scheduler.leave(id) }

    /// Holds for what is held back, too.
    package func setPriority(_ priority: Int) { scheduler.setPriority(Self.clamped(priority), of: id) }

    package var priority: Int { scheduler.priority(of: id) }
    package var status: Status { scheduler.status(of: id) }

    /// It doesn't count among those who compete any more: its device is closed.
    func retire() { scheduler.retire(id) }

    /// What is submitted now passes uncounted, and behind all that this lane held back before.
    var isOpen: Bool { gate.isOpen }

    /// Lets a URB pass, or not: then it's to be held back.
    func admits(_ urb: inout URB) -> Bool {
        if urb.isPeriodic {
            guard let limits else { return true }
            limits.takeAnyway(urb.requestedLength, now: scheduler.clock.now())
            urb.charge = .rate
            return true
        }
        guard let charge = scheduler.admit(urb, to: id, now: scheduler.clock.now()) else { return false }
        urb.charge = charge
        return true
    }

    /// Keeps a URB until it's its turn, or it's taken out. The caller pumps.
    func hold(_ urb: consuming URB) { scheduler.hold(urb, in: id) }

    /// Takes out a URB that is held back; nil where it isn't, or the pump has it already. The caller pumps.
    func take(_ token: URBToken) -> URB? { scheduler.take(token, from: id) }

    /// Takes out the oldest that is held back on one of these endpoints, a bit an index. The caller pumps.
    func takeFirst(on endpoints: UInt32) -> URB? { scheduler.takeFirst(on: endpoints, from: id) }

    /// A URB with a charge has ended.
    /// - Returns: whether others wait. The caller pumps then.
    func ended(_ urb: borrowing URB) -> Bool {
        if urb.charge.contains(.rate) { limits?.refund(urb.requestedLength - urb.actualLength) }
        return urb.charge.isDisjoint(with: [.window, .inFlight]) ? false : scheduler.ended(urb, in: id)
    }

    func pump() { scheduler.pump() }

    private static func clamped(_ priority: Int) -> Int {
        min(max(priority, priorities.lowerBound), priorities.upperBound)
    }
}
