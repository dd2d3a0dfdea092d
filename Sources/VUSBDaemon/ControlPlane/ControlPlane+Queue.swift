// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// Who waits for a device, and whose turn it is. Arbiter.md, W1 and W2.
extension ControlPlane {
    func join(_ record: DeviceRecord, guest: String, operation: Int) {
        let priority = guestRegistry[guest]?.definition.priority ?? GuestDefinition.defaultPriority
        let waiter = DeviceQueue.Waiter(
            operation: operation, device: DeviceIdentity(record), guest: guest, priority: priority)
        deviceQueue.join(record.id, waiter)
        inheritPriority(record.id)
    }

    func leaveQueue(_ id: DeviceID, operation: Int) {
        deviceQueue.leave(id, operation: operation)
        inheritPriority(id)
        deviceQueue.tell(id)
    }

    /// Returns once the device is the operation's: free before, or (not for a request) attached to another guest, which it
    /// is to be taken from; with `wait` only when that doesn't seem to use it.
    func turn(_ id: DeviceID, _ move: Move, operation: Int) async throws(Problem) -> Attachment? {
        let deadline = move.release.flatMap {
            $0.onDeadline == .wait ? nil : ContinuousClock.now + (move.patience ?? $0.deadline)
        }
        var asked: String?
        var told: String?
        while true {
            try checkCancelled(operation)
            try checkMayTake(move.guest)
            let isFirst = firstReady(for: id)?.operation == operation
            let reason: String
            switch try look(at: id, move, isFirst: isFirst, asked: &asked, operation: operation) {
            case .ours(let previous): return previous
            case .again: continue
            case .wait(let why): reason = why ?? waitReason(id, operation)
            }
            if let deadline, ContinuousClock.now >= deadline { throw late(id, move, reason) }
            if reason != told { operationLog.step(operation, "waiting for \(reason)") }
            told = reason
            // Whether somebody uses it nobody tells.
            let isLooking = isFirst && move.release?.onDeadline == .wait
            await awaitNews(of: id, until: isLooking ? .now + .milliseconds(100) : deadline, operation: operation)
        }
    }

    /// What a look at a device that is waited for comes to.
    private enum Look {
        /// It's the operation's; whom it's to be taken from, if anybody has it.
        case ours(Attachment?)
        case again
        /// Not yet; why, where that isn't who has it or comes first.
        case wait(String?)
    }

    /// - Parameter asked: who was told last that somebody waits.
    private func look(
        at id: DeviceID, _ move: Move, isFirst: Bool, asked: inout String?, operation: Int
    ) throws(Problem) -> Look {
        switch standing(of: id, to: operation) {
        case .given where guestRegistry[move.guest]?.state == .loaded: return .ours(nil)
        case .given:
            settle(id)
            return .again
        case .free where isFirst:
            reserve(id, for: move.guest, operation)
            return .ours(nil)
        case .attached(let attachment) where attachment.guest == move.guest:
            throw Problem(.conflict, "guest \(move.guest) has device \(id) already", remedy: "there is nothing to do")
        case .attached(let attachment) where isFirst:
            try move.check(attachment)
            if asked != attachment.guest { ask(attachment, for: move.guest) }
            asked = attachment.guest
            return try begin(taking: attachment, move, operation: operation)
        case .away, .free, .attached, .changing: return .wait(nil)
        }
    }

    /// From W2 to W3, unless it's only waited for, or seems to be in use.
    private func begin(taking attachment: Attachment, _ move: Move, operation: Int) throws(Problem) -> Look {
        guard let release = move.release else { return .wait(nil) }
        let id = attachment.record.id
        try checkMayHaveMore(move.guest)
        if release.onDeadline == .wait, let use = useReasons(of: attachment).first {
            return .wait("\(id): \(use.text)")
        }
        mark([attachment], by: operation)
        deviceRegistry[id]?.next = DeviceEntry.Handover(operation: operation, guest: move.guest)
        return .ours(attachment)
    }

    /// W2, once for each holder.
    private func ask(_ attachment: Attachment, for guest: String) {
        emit(
            .deviceRequested, guest: attachment.guest, device: attachment.record.id, path: attachment.path,
            detail: "by guest \(guest)", guestDetail: "somebody waits for it")
    }

    /// A guest whose unload may yet be refused goes on waiting.
    private func checkMayTake(_ name: String) throws(Problem) {
        let guest = try guestRegistry.find(name)
        if case .draining = guest.state { return }
        try checkTakesDevices(guest)
    }

    /// How a device is, to those who wait for it.
    private enum Standing {
        case away, free, changing
        case attached(Attachment)
        /// Reserved for the one that asks.
        case given
    }

    private func standing(of id: DeviceID, to operation: Int) -> Standing {
        guard let entry = deviceRegistry[id] else { return .away }
        if case .attaching(operation, _) = entry.holder {
            guard entry.hasLeft else { return .given }
            // It was unplugged before its new owner woke: nobody else would let go of it.
            settle(id)
            // The next one on its port may have come by that, and be this operation's: nobody tells it again.
            return standing(of: id, to: operation)
        }
        guard !entry.hasLeft, entry.quarantine == nil,
            deviceQueue.identity(of: operation, at: id)?.matches(entry.record) == true
        else { return .away }
        switch entry.holder {
        case .free: return .free
        case .attached(let attachment): return .attached(attachment)
        case .attaching, .detaching: return .changing
        }
    }

    private func waitReason(_ id: DeviceID, _ operation: Int) -> String {
        guard let entry = deviceRegistry[id], !entry.hasLeft,
            deviceQueue.identity(of: operation, at: id)?.matches(entry.record) == true
        else { return "\(id), which isn't there" }
        if entry.quarantine != nil { return "\(id), which is quarantined" }
        if let first = firstReady(for: id), first.operation != operation {
            return "\(id): operation \(first.operation) for guest \(first.guest) comes first"
        }
        if let other = entry.operation { return "\(id): operation \(other) is at work on it" }
        return entry.guest.map { "\(id): guest \($0) has it" } ?? "\(id)"
    }

    private func late(_ id: DeviceID, _ move: Move, _ reason: String) -> Problem {
        Problem(
            .busy,
            "device \(id) wasn't to be had for guest \(move.guest) within "
                + "\((move.patience ?? move.release?.deadline ?? .zero).inSeconds) s: it waited for \(reason)",
            remedy: "give a longer deadline, wait (--on-deadline wait), or cancel what is before it")
    }

    private func awaitNews(of id: DeviceID, until deadline: ContinuousClock.Instant?, operation: Int) async {
        let gate = deviceQueue.gate(id, operation: operation)
        let alarm = deadline.map { deadline in
            Task {
                // A cancelled sleep only means that there is news.
                try? await Task.sleep(until: deadline, clock: .continuous)
                gate.open()
            }
        }
        await gate.wait()
        alarm?.cancel()
    }

    /// Who is first for the device that is there, of those whose guests can take it.
    func firstReady(for id: DeviceID) -> DeviceQueue.Waiter? {
        guard let entry = deviceRegistry[id], let record = entry.visibleRecord, entry.quarantine == nil else {
            return nil
        }
        return deviceQueue.first(for: id) { waiter in
            waiter.device.matches(record) && guestRegistry[waiter.guest]?.state == .loaded
        }
    }

    /// Nobody has the device any more: whoever it's handed over to, or is first in the queue, gets it in the same step.
    func handOver(_ id: DeviceID) -> Bool {
        guard deviceRegistry[id]?.quarantine == nil else { return false }
        if let next = deviceRegistry[id]?.next {
            deviceRegistry[id]?.next = nil
            reserve(id, for: next.guest, next.operation)
            return true
        }
        guard phase == .running, let first = firstReady(for: id) else { return false }
        reserve(id, for: first.guest, first.operation)
        first.news.open()
        return true
    }

    /// Whether the operation's guest can still take what is waited for on its behalf.
    /// - Parameter isNow: it's to be had now, and not only hoped for.
    func checkStillWanted(_ operation: Int, isNow: Bool = false) throws(Problem) {
        let kinds = [Operation.Kind.switch, .focus].map(\.rawValue)
        guard let info = operationLog[operation]?.info, kinds.contains(info.kind), let name = info.guest else { return }
        if isNow { try checkTakesDevices(try guestRegistry.find(name)) } else { try checkMayTake(name) }
    }

    /// Who asks may have been admitted while another guest had the device.
    func checkIsCallers(_ holder: String?, _ id: DeviceID) throws(Problem) {
        guard let guests = Caller.guests, !guests.contains(holder ?? "") else { return }
        throw Problem(.denied, "device \(id) is guest \(holder ?? "nobody")'s", remedy: "ask an operator")
    }
}
