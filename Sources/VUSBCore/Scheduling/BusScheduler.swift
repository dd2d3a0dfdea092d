// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Decides for one bus which guest's URB goes next, where guests differ in priority or have limits; Scheduling.md has
/// the rules.
///
/// Concurrency model: any thread submits, completes, cancels and changes priorities. All state is in one `Mutex`, which
/// is held across no call to a device, a backend or a handler. It has no thread: URBs that were held back go to their
/// backends on the thread that ends another URB, or on the clock's, one such at a time (`pump`), so that those of one
/// endpoint stay in order. Lock order: this one, then that of a `GuestLimits` or of a `HeldURBSlot`.
package final class BusScheduler: AlarmReceiver {
    /// As many as one call of `pump` lets go: whose thread it is has its own work, too.
    private static let pumpLimit = 64

    let clock: any AlarmClock
    private let state: Mutex<BusState>
    /// Of shorter URBs the time isn't taken.
    private let shortestSample: Int

    package init(window: BusWindow, clock: any AlarmClock = AlarmThread.shared) {
        self.clock = clock
        shortestSample = BusRate(window).shortestSample
        state = Mutex(BusState(window: window))
    }

    // MARK: - Lanes

    func join(_ lane: LaneState) -> Int {
        lane.limits?.join(self)
        return state.withLock { $0.join(lane) }
    }

    func retire(_ id: Int) { change { $0.change(id, .retired) } }

    func leave(_ id: Int) {
        let limits = state.withLock { $0.lanes[id].limits }
        change { $0.change(id, .free) }
        limits?.leave(self)
    }

    func setPriority(_ priority: Int, of id: Int) { change { $0.setPriority(priority, of: id) } }

    func limitsChanged() { change { $0.rank() } }

    /// What was held back under the old rules may go under the new ones.
    private func change(_ body: (inout BusState) -> Void) {
        state.withLock { body(&$0) }
        pump()
    }

    func priority(of id: Int) -> Int { state.withLock { $0.lanes[id].priority } }
    func status(of id: Int) -> BusLane.Status { state.withLock { $0.lanes[id].status } }

    /// Bytes that count in the window now: for tests.
    package var bytesInWindow: Int { state.withLock { $0.bytes } }

    // MARK: - URBs

    func admit(_ urb: borrowing URB, to id: Int, now: UInt64) -> URB.Charge? {
        state.withLock { $0.admit(urb, of: id, now: now, for: self) }
    }

    func hold(_ urb: consuming URB, in id: Int) {
        let now = clock.now()
        var moved: URB? = consume urb
        state.withLock { state in
            guard let urb = moved.take() else { return }
            state.hold(urb, in: id, now: now)
        }
    }

    func take(_ token: URBToken, from id: Int) -> URB? {
        state.withLock { state in
            guard let index = state.lanes[id].slots.index(of: token) else { return nil }
            return state.takeOut(index, from: id)
        }
    }

    func takeFirst(on endpoints: UInt32, from id: Int) -> URB? {
        state.withLock { state in
            guard let index = state.lanes[id].firstHeld(on: endpoints) else { return nil }
            return state.takeOut(index, from: id)
        }
    }

    /// A URB that counts has ended.
    /// - Returns: whether somebody waits. Who begins to wait later finds the room itself.
    func ended(_ urb: borrowing URB, in id: Int) -> Bool {
        let token = urb.token
        let isFull = urb.status == .success && urb.actualLength == urb.requestedLength
        let fullAt = isFull && urb.requestedLength >= shortestSample ? clock.now() : nil
        let (isAwaited, others) = state.withLock { state in
            let others = state.end(token, of: id, fullAt: fullAt, for: self)
            return (!state.waiting.isEmpty, others)
        }
        for scheduler in others { scheduler.pump() }
        return isAwaited
    }

    // MARK: - Whose turn it is

    /// Lets all go whose turn it is. Where somebody does that already, that one does this, too: so that a backend
    /// that completes within `submit` isn't called recursively.
    func pump() {
        guard state.withLock({ $0.beginPump() }) else { return }
        var released: Int?
        for _ in 0..<Self.pumpLimit {
            let now = clock.now()
            let step = state.withLock { $0.step(after: released, now: now, for: self) }
            switch step {
            case .turn(let turn):
                released = turn.lane
                go(turn)
            case .wait(let alarm):
                if let alarm { clock.wake(self, at: alarm) }
                return
            }
        }
        let now = clock.now()
        state.withLock { $0.endPump(after: released, now: now) }
        clock.wake(self, at: now)
    }

    private func go(_ turn: BusState.Turn) {
        if let passedOver = turn.passedOver { turn.gate.onPassedOver?(passedOver) }
        guard var urb = turn.slot.take() else { return }
        urb.charge = turn.charge
        urb.carryOut()
    }

    package func alarmRang() {
        // What one guest has in flight on another bus may wait for its device there: nobody else may look.
        for limits in state.withLock({ $0.alarmRang() }) {
            for member in limits.members where member !== self { member.park() }
        }
        pump()
    }

    private func park() {
        let now = clock.now()
        state.withLock { $0.park(now, for: self) }
    }
}

extension BusState {
    fileprivate mutating func hold(_ urb: consuming URB, in id: Int, now: UInt64) {
        if lanes[id].status.queued == 0 {
            waiting.append(id)
            lanes[id].isLimitBlocked = false
            lanes[id].wasPassedOver = false
        }
        lanes[id].hold(urb, now: now)
        setGate(of: id)
        let index = urb.token.index
        let slot = lanes[id].slots[index].box ?? HeldURBSlot()
        lanes[id].slots[index].box = slot
        slot.put(urb)
    }

    fileprivate mutating func takeOut(_ index: Int, from id: Int) -> URB? {
        guard lanes[id].slots[index].place == .held, let slot = lanes[id].unhold(index) else { return nil }
        if lanes[id].status.queued == 0 {
            waiting.removeAll { $0 == id }
            setGate(of: id)
        }
        return slot.take()
    }

    fileprivate mutating func beginPump() -> Bool {
        guard !isPumping, !waiting.isEmpty else { return false }
        isPumping = true
        return true
    }

    /// - Parameter released: the lane whose URB is at its backend now.
    fileprivate mutating func step(after released: Int?, now: UInt64, for scheduler: BusScheduler) -> Step {
        arrived(released)
        let step = next(now, for: scheduler)
        if case .wait = step { isPumping = false }
        return step
    }

    fileprivate mutating func endPump(after released: Int?, now: UInt64) {
        arrived(released)
        isPumping = false
        alarm = now
    }

    private mutating func arrived(_ released: Int?) {
        guard let released else { return }
        lanes[released].releasing -= 1
        setGate(of: released)
    }

    /// - Returns: limits that hold something back.
    fileprivate mutating func alarmRang() -> [GuestLimits] {
        alarm = nil
        return waiting.compactMap { lanes[$0].isLimitBlocked ? lanes[$0].limits : nil }
    }
}
