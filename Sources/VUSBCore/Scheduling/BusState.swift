// SPDX-License-Identifier: Apache-2.0

/// What a scheduler knows: its lanes, who of them waits, and what is in flight. A value without a lock of its own.
///
/// The rules are those of Scheduling.md. `top` are the lanes that nobody is more important than, `rest` are all others.
struct BusState {
    let window: BusWindow
    private(set) var rate: BusRate
    /// By a lane's number.
    var lanes: [LaneState] = []
    /// Numbers of the lanes that hold URBs back.
    var waiting: [Int] = []
    /// That of the top lanes.
    private(set) var topPriority = 0
    /// Lanes differ in priority: the window is kept.
    private(set) var isCompeting = false
    /// Counted in the window.
    private(set) var bytes = 0
    /// The top lanes' part of it.
    private(set) var topBytes = 0
    /// Somebody is in `BusScheduler.pump`.
    var isPumping = false
    /// When the clock rings; nil where no alarm is set.
    var alarm: UInt64?

    init(window: BusWindow) {
        self.window = window
        rate = BusRate(window)
    }

    // MARK: - Who is there

    mutating func join(_ lane: LaneState) -> Int {
        defer { rank() }
        // One that the pump hasn't done with yet is counted there.
        if let free = lanes.firstIndex(where: { $0.membership == .free && $0.releasing == 0 }) {
            lanes[free] = lane
            return free
        }
        lanes.append(lane)
        return lanes.count - 1
    }

    mutating func change(_ id: Int, _ membership: LaneState.Membership) {
        lanes[id].membership = membership
        rank()
    }

    mutating func setPriority(_ priority: Int, of id: Int) {
        lanes[id].priority = priority
        rank()
    }

    /// Finds out anew who is on top and whether anybody competes.
    mutating func rank() {
        topPriority = 0
        var lowest = Int.max
        for lane in lanes where lane.membership == .member {
            topPriority = max(topPriority, lane.priority)
            lowest = min(lowest, lane.priority)
        }
        isCompeting = lowest < topPriority
        for id in lanes.indices {
            lanes[id].isTop = lanes[id].priority >= topPriority
            setGate(of: id)
        }
        countBytes()
    }

    func setGate(of id: Int) {
        let isOpen = !isCompeting && lanes[id].limits?.values.isUnlimited ?? true && !lanes[id].isBusy
        lanes[id].gate.set(open: isOpen)
    }

    mutating func countBytes() {
        bytes = 0
        topBytes = 0
        for lane in lanes {
            bytes += lane.bytesInWindow
            if lane.isTop { topBytes += lane.bytesInWindow }
        }
    }

    // MARK: - What is in flight

    mutating func pass(
        _ token: URBToken, _ endpoint: EndpointAddress, length: Int, charge: URB.Charge, of id: Int, now: UInt64
    ) {
        lanes[id].pass(token, endpoint, length: length, charge: charge, now: now)
        if charge.contains(.window) { count(length, of: id) }
        for other in waiting where lanes[other].priority < lanes[id].priority && !lanes[other].isLimitBlocked {
            lanes[other].wasPassedOver = true
        }
    }

    /// - Parameter fullAt: when it ended, where that tells how fast the bus is.
    /// - Returns: other schedulers that may have something for the guest's limits now.
    mutating func end(
        _ token: URBToken, of id: Int, fullAt: UInt64?, for scheduler: BusScheduler
    ) -> [BusScheduler] {
        let (length, since) = (lanes[id].slots[token.index].length, lanes[id].slots[token.index].since)
        if let fullAt, fullAt > since { rate.add(length, in: fullAt - since) }
        return uncount(lanes[id].end(token), length, of: id, for: scheduler)
    }

    /// Stops counting what has been in flight for so long that it waits for its device. Others who wait for the same
    /// limits have an alarm of their own.
    mutating func park(_ now: UInt64, for scheduler: BusScheduler) {
        for id in lanes.indices {
            while let parked = lanes[id].parkOldest(now, rate) {
                _ = uncount(parked.charge, parked.length, of: id, for: scheduler)
            }
        }
    }

    private mutating func uncount(
        _ charge: URB.Charge, _ length: Int, of id: Int, for scheduler: BusScheduler
    ) -> [BusScheduler] {
        if charge.contains(.window) { count(-length, of: id) }
        guard charge.contains(.inFlight) else { return [] }
        return lanes[id].limits?.giveBack(length, for: scheduler) ?? []
    }

    private mutating func count(_ length: Int, of id: Int) {
        bytes += length
        if lanes[id].isTop { topBytes += length }
    }
}
