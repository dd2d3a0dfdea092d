// SPDX-License-Identifier: Apache-2.0

// Whose turn it is: the rules of Scheduling.md.
extension BusState {
    // MARK: - At once

    /// Lets a URB pass that needn't be held back.
    /// - Returns: how it counts from now; nil where it's to be held back.
    mutating func admit(_ urb: borrowing URB, of id: Int, now: UInt64, for scheduler: BusScheduler) -> URB.Charge? {
        guard !lanes[id].isBusy, !isAwaited(before: id) else { return nil }
        if !fits(urb.requestedLength, of: id, isAged: false) {
            park(now, for: scheduler)
            guard fits(urb.requestedLength, of: id, isAged: false) else { return nil }
        }
        guard let charge = charge(urb.requestedLength, of: id, now: now, for: scheduler).charge else { return nil }
        pass(urb.token, urb.endpoint, length: urb.requestedLength, charge: charge, of: id, now: now)
        return charge
    }

    /// Somebody waits for the bus whom this lane mustn't overtake: for a top lane another one, for the rest anybody.
    private func isAwaited(before id: Int) -> Bool {
        waiting.contains { !lanes[$0].isLimitBlocked && (lanes[$0].isTop || !lanes[id].isTop) }
    }

    /// What is in flight of less important guests doesn't stand in a top lane's way. An aged URB of the rest doesn't
    /// wait for the top lanes' bytes.
    private func fits(_ length: Int, of id: Int, isAged: Bool) -> Bool {
        guard isCompeting else { return true }
        let others = lanes[id].isTop ? topBytes : isAged ? bytes - topBytes : bytes
        return window.hasRoom(for: length, beside: others)
    }

    private func charge(
        _ length: Int, of id: Int, now: UInt64, for scheduler: BusScheduler
    ) -> (charge: URB.Charge?, ready: UInt64?) {
        var charge: URB.Charge = isCompeting ? .window : []
        guard let limits = lanes[id].limits else { return (charge, nil) }
        switch limits.take(length, now: now, for: scheduler) {
        case .taken:
            charge.formUnion([.inFlight, .rate])
            return (charge, nil)
        // On another bus nobody may look when something is to be parked: look again.
        case .whenOneEnds: return (nil, now + rate.parkingTime(0))
        case .at(let time): return (nil, time)
        }
    }

    // MARK: - From the queue

    /// A URB that has been held back and whose turn it is.
    struct Turn {
        let lane: Int
        let slot: HeldURBSlot
        let charge: URB.Charge
        let gate: LaneGate
        /// How long its lane was passed over, where that is to be told.
        let passedOver: Duration?
    }

    enum Step {
        case turn(Turn)
        /// It's nobody's turn, before `alarm` at any rate.
        case wait(alarm: UInt64?)
    }

    /// The next URB to go. The pump calls it until there is none.
    mutating func next(_ now: UInt64, for scheduler: BusScheduler) -> Step {
        park(now, for: scheduler)
        for id in waiting { lanes[id].isLimitBlocked = false }
        var alarm = UInt64.max
        var isTopWaiting = false
        while let id = best(top: true) {
            guard fits(lanes[id].slots[lanes[id].head].length, of: id, isAged: false) else {
                isTopWaiting = true
                break
            }
            if let turn = turn(of: id, now, for: scheduler, &alarm) { return .turn(turn) }
        }
        while let id = best(top: false) {
            let agedAt = agedAt(id)
            let isAged = agedAt <= now
            guard isAged || !isTopWaiting, fits(lanes[id].slots[lanes[id].head].length, of: id, isAged: isAged) else {
                if !isAged { alarm = min(alarm, agedAt) }
                break
            }
            if let turn = turn(of: id, now, for: scheduler, &alarm) { return .turn(turn) }
        }
        return .wait(alarm: nextAlarm(alarm))
    }

    /// The lane whose turn is next, of those that wait for the bus.
    private func best(top: Bool) -> Int? {
        var best: (id: Int, rank: Int)?
        for id in waiting where lanes[id].isTop == top && !lanes[id].isLimitBlocked {
            let rank = rank(of: id)
            if rank > best?.rank ?? .min { best = (id, rank) }
        }
        return best?.id
    }

    /// Priority, and time waited as priority: of two lanes always the same one is ahead, however late it is.
    private func rank(of id: Int) -> Int {
        let step = Int(window.ageingStep)
        // Control goes before all else of its priority, unless that has waited a step longer.
        let control = lanes[id].control.isEmpty ? 0 : step - 1
        return lanes[id].priority * step + control - Int(lanes[id].waitsSince)
    }

    /// When the lane has waited for as long as makes up for the top lanes' priority. The best rank is the earliest time.
    private func agedAt(_ id: Int) -> UInt64 { UInt64(topPriority * Int(window.ageingStep) - rank(of: id)) }

    /// Takes out the lane's first URB, or finds that the guest's limits hold it back.
    private mutating func turn(
        of id: Int, _ now: UInt64, for scheduler: BusScheduler, _ alarm: inout UInt64
    ) -> Turn? {
        let index = lanes[id].head
        let slot = lanes[id].slots[index]
        let answer = charge(slot.length, of: id, now: now, for: scheduler)
        guard let charge = answer.charge, let box = lanes[id].unhold(index) else {
            lanes[id].isLimitBlocked = true
            alarm = min(alarm, answer.ready ?? .max)
            return nil
        }
        if lanes[id].status.queued == 0 { waiting.removeAll { $0 == id } }
        lanes[id].releasing += 1
        let told = lanes[id].tellWait(since: slot.since, now: now)
        pass(slot.token, slot.endpoint, length: slot.length, charge: charge, of: id, now: now)
        return Turn(lane: id, slot: box, charge: charge, gate: lanes[id].gate, passedOver: told)
    }

    /// Where something waits, it also may go when something is parked.
    private mutating func nextAlarm(_ soonest: UInt64) -> UInt64? {
        guard !waiting.isEmpty else { return nil }
        let parking = lanes.reduce(soonest) { min($0, $1.parksAt(rate) ?? .max) }
        guard parking < .max, parking < alarm ?? .max else { return nil }
        alarm = parking
        return parking
    }
}
