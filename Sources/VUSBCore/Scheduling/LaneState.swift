// SPDX-License-Identifier: Apache-2.0

/// A lane as its scheduler keeps it. A value without a lock of its own.
struct LaneState {
    enum Membership {
        case member
        /// Its device is closed: it doesn't count among those who compete.
        case retired
        /// Its number is free.
        case free
    }

    var membership = Membership.member
    let gate: LaneGate
    let limits: GuestLimits?
    var priority: Int
    /// Nobody on the bus is more important.
    var isTop = true
    var slots = LaneSlots()
    /// Of endpoint 0; goes before `others`.
    var control = LaneSlots.List()
    var others = LaneSlots.List()
    var inFlight = LaneSlots.List()
    /// Bytes of `inFlight` that count in the window.
    var bytesInWindow = 0
    /// URBs of it that the pump has taken and that aren't at their backend yet.
    var releasing = 0
    /// When a URB of it passed last.
    var servedAt: UInt64 = 0
    /// Its first URB waits for its guest's limits, and not for the bus.
    var isLimitBlocked = false
    var wasPassedOver = false
    var report = PassedOver()
    var status = BusLane.Status()

    /// What of being passed over isn't told yet.
    struct PassedOver {
        var longest: UInt64 = 0
        var toldAt: UInt64?
    }

    init(gate: LaneGate, limits: GuestLimits?, priority: Int) {
        self.gate = gate
        self.limits = limits
        self.priority = priority
    }

    /// Must what comes now queue behind what came before it?
    var isBusy: Bool { status.queued > 0 || releasing > 0 }

    /// The URB to go first; only where one is held back.
    var head: Int { control.isEmpty ? others.first : control.first }

    /// Since when the lane waits: from its first URB's time, or from when it last had its turn.
    var waitsSince: UInt64 { max(slots[head].since, servedAt) }

    /// The oldest that is held back on one of these endpoints, a bit an index.
    func firstHeld(on endpoints: UInt32) -> Int? {
        slots.first(on: endpoints, in: control) ?? slots.first(on: endpoints, in: others)
    }

    mutating func hold(_ urb: borrowing URB, now: UInt64) {
        let isControl = urb.endpoint.number == 0
        if isControl {
            slots.append(urb.token, urb.endpoint, length: urb.requestedLength, since: now, as: .held, to: &control)
        } else {
            slots.append(urb.token, urb.endpoint, length: urb.requestedLength, since: now, as: .held, to: &others)
        }
        status.queued += 1
        status.heldTotal += 1
    }

    /// - Returns: what holds the URB; whoever unlinks it takes it.
    mutating func unhold(_ index: Int) -> HeldURBSlot? {
        if slots[index].endpoint.number == 0 {
            slots.unlink(index, as: .none, from: &control)
        } else {
            slots.unlink(index, as: .none, from: &others)
        }
        status.queued -= 1
        return slots[index].box
    }

    /// A URB goes to its backend, and counts from now where it is charged. Without a charge nobody will say that it has
    /// ended.
    mutating func pass(
        _ token: URBToken, _ endpoint: EndpointAddress, length: Int, charge: URB.Charge, now: UInt64
    ) {
        servedAt = now
        guard !charge.isEmpty else { return }
        slots.append(token, endpoint, length: length, since: now, as: .inFlight, to: &inFlight)
        slots[token.index].charge = charge
        if charge.contains(.window) { bytesInWindow += length }
    }

    /// It has ended.
    /// - Returns: how it counted until now.
    mutating func end(_ token: URBToken) -> URB.Charge {
        guard let index = slots.index(of: token) else { return [] }
        guard slots[index].place == .inFlight else {
            slots[index].place = .none
            return []
        }
        return uncount(index, as: .none)
    }

    /// Stops counting the oldest in flight where it has been so for too long.
    /// - Returns: how it counted, and its length; nil where there is none such.
    mutating func parkOldest(_ now: UInt64, _ rate: BusRate) -> (charge: URB.Charge, length: Int)? {
        guard let due = parksAt(rate), due <= now else { return nil }
        let index = inFlight.first
        return (uncount(index, as: .parked), slots[index].length)
    }

    /// When the oldest in flight stops counting.
    func parksAt(_ rate: BusRate) -> UInt64? {
        guard !inFlight.isEmpty else { return nil }
        return slots[inFlight.first].since + rate.parkingTime(slots[inFlight.first].length)
    }

    private mutating func uncount(_ index: Int, as place: LaneSlots.Place) -> URB.Charge {
        slots.unlink(index, as: place, from: &inFlight)
        if slots[index].charge.contains(.window) { bytesInWindow -= slots[index].length }
        return slots[index].charge
    }

    /// A URB that had been held back since `since` goes: how long it was passed over, where that is to be told now.
    mutating func tellWait(since: UInt64, now: UInt64) -> Duration? {
        let wait = now - min(now, since)
        status.longestWait = max(status.longestWait, .nanoseconds(wait))
        guard wasPassedOver else { return nil }
        wasPassedOver = false
        report.longest = max(report.longest, wait)
        if let toldAt = report.toldAt, now < toldAt + 1_000_000_000 { return nil }
        defer { report = PassedOver(longest: 0, toldAt: now) }
        return .nanoseconds(report.longest)
    }
}
