// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// A device goes from one guest to another, or to whoever waits for it. Arbiter.md has the states, W1 to W7.
extension ControlPlane {
    func switchDevice(_ name: String, _ request: SwitchRequest) throws(Problem) -> OperationInfo {
        let release = try Release(
            ReleaseRequest(deadlineSeconds: request.deadlineSeconds, onDeadline: request.onDeadline))
        return try beginMove(
            name, Move(guest: request.guest, release: release, byHand: true, mayCancelOf: Caller.guests))
    }

    /// Waits until the device is free, and asks who has it.
    func requestDevice(_ name: String, _ request: AttachRequest) throws(Problem) -> OperationInfo {
        try beginMove(name, Move(guest: request.guest, release: nil, byHand: true))
    }

    struct Move: Sendable {
        var guest: String
        /// How it's taken from who has it; nil where it's only waited for.
        var release: Release?
        /// How long its turn is waited for, where that isn't the release's deadline.
        var patience: Duration?
        var byHand: Bool
        /// Whom it may be taken from; nil for anybody.
        var from: Set<String>?
        /// Whose transfers may be cancelled by that; nil for anybody's.
        var mayCancelOf: Set<String>?

        /// - Throws: where it isn't to be taken from that guest.
        func check(_ attachment: Attachment) throws(Problem) {
            let (id, holder) = (attachment.record.id, attachment.guest)
            if let from, !from.contains(holder) {
                throw Problem(
                    .conflict, "guest \(holder) has device \(id), from which it isn't taken",
                    remedy: "take it from there: vusbctl switch \(id) \(guest)")
            }
            if let mayCancelOf, release?.onDeadline == .cancel, !mayCancelOf.contains(holder) {
                throw Problem(
                    .denied, "what guest \(holder) does with device \(id) isn't yours to cancel",
                    remedy: "ask an operator, or wait: --on-deadline wait")
            }
        }
    }

    private func beginMove(_ name: String, _ move: Move) throws(Problem) -> OperationInfo {
        try checkRunning()
        let id = try deviceRegistry.resolve(name)
        try checkTakesDevices(try guestRegistry.find(move.guest))
        try checkLendable(id)
        if case .attached(let attachment)? = deviceRegistry[id]?.holder, attachment.guest == move.guest {
            throw Problem(.conflict, "guest \(move.guest) has device \(id) already", remedy: "there is nothing to do")
        }
        return beginMove(id, move)
    }

    @discardableResult
    func beginMove(_ id: DeviceID, _ move: Move) -> OperationInfo {
        let operation = begin(move.release == nil ? .request : .switch, guest: move.guest, device: id)
        if let record = deviceRegistry[id]?.record { join(record, guest: move.guest, operation: operation) }
        return run(operation) { (plane, operation) async throws(Problem) in
            let result: Result<AttachmentInfo, Problem>
            do throws(Problem) {
                result = .success(try await plane.move(id, move, operation: operation))
            } catch {
                result = .failure(error)
            }
            plane.endMove(id, move, result, operation: operation)
            return try result.get()
        }
    }

    /// Whatever it came to, nothing of the device is the operation's any more.
    private func endMove(
        _ id: DeviceID, _ move: Move, _ result: Result<AttachmentInfo, Problem>, operation: Int
    ) {
        leaveQueue(id, operation: operation)
        if deviceRegistry[id]?.next?.operation == operation { deviceRegistry[id]?.next = nil }
        if case .attaching(operation, _)? = deviceRegistry[id]?.holder { settle(id) }
        if case .failure = result { offerFree(excluding: move.guest) }
        noteLoss(of: move.guest)
    }

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

    private func move(_ id: DeviceID, _ move: Move, operation: Int) async throws(Problem) -> AttachmentInfo {
        guard let previous = try await takeInTurn(id, move, operation: operation) else {
            return try await attach(id, to: move.guest, byHand: move.byHand, operation: operation)
        }
        let wasByHand = guestRegistry[previous.guest]?.hasByHand(previous.record) == true
        do throws(Problem) {
            // It may have been unloaded meanwhile. From here on it can't be: the device is being attached to it.
            try checkTakesDevices(try guestRegistry.find(move.guest))
            let info = try await attach(id, to: move.guest, byHand: move.byHand, operation: operation)
            tellOfSwitch(id, from: previous.guest, to: move.guest, operation: operation)
            noteLoss(of: previous.guest)
            return info
        } catch {
            throw await giveAgain(previous, byHand: wasByHand, because: error, operation: operation)
        }
    }

    /// W1 to W5, with `wait` as often as it takes: between two attempts its guest works with it as before.
    /// - Returns: whom it was taken from; nil where it was free.
    func takeInTurn(_ id: DeviceID, _ move: Move, operation: Int) async throws(Problem) -> Attachment? {
        var pause = Duration.seconds(1)
        var told: String?
        while true {
            guard let previous = try await turn(id, move, operation: operation), let release = move.release else {
                return nil
            }
            let attempt = release.onDeadline == .wait ? .attempt : release
            do throws(Problem) {
                try await takeOver(previous, attempt, operation: operation)
                return previous
            } catch {
                guard release.onDeadline == .wait, error.code == .busy else { throw error }
                operationLog.setCancellable(operation, true)
                if told != error.detail { operationLog.step(operation, "waiting: \(error.detail)") }
                told = error.detail
            }
            await sleep(pause, with: move.guest)
            pause = min(pause * 2, Release.longestPause)
        }
    }

    /// W3 to W5. The device is the operation's afterwards; if it can't be opened for the new guest, it's the old one's at
    /// once.
    func takeOver(_ previous: Attachment, _ release: Release, operation: Int) async throws(Problem) {
        let id = previous.record.id
        do throws(Problem) {
            try await takeBack([previous], from: previous.guest, release, operation: operation)
        } catch {
            deviceRegistry[id]?.next = nil
            throw error
        }
        guard case .attaching(operation, _)? = deviceRegistry[id]?.holder, deviceRegistry[id]?.record == previous.record
        else {
            throw Problem(.notFound, "device \(id) was unplugged meanwhile", remedy: "plug it in again")
        }
        deviceRegistry[id]?.next = DeviceEntry.Handover(operation: operation, guest: previous.guest)
    }

    /// W6: it's the old guest's again.
    func giveAgain(
        _ previous: Attachment, byHand: Bool, because problem: Problem, operation: Int
    ) async -> Problem {
        let (id, name) = (previous.record.id, previous.guest)
        deviceRegistry[id]?.next = nil
        guard case .attaching(operation, _)? = deviceRegistry[id]?.holder, let guest = guestRegistry[name] else {
            return problem
        }
        guard guest.state == .loaded else {
            // Where it's loaded further on, or again, it's to have it.
            if guest.state != .unloaded { change(name) { $0.noteAttached(previous.record, byHand: byHand) } }
            return problem
        }
        reserve(id, for: name, operation)
        operationLog.step(operation, "giving \(id) to \(name) again")
        // The operation may have been cancelled: this is how it's undone.
        let result = await shielded { () async -> Result<AttachmentInfo, Problem> in
            do throws(Problem) {
                return .success(try await self.attach(id, to: name, byHand: byHand, operation: operation))
            } catch {
                return .failure(error)
            }
        }
        guard case .failure(let error) = result else { return problem }
        return Problem(
            .failed, "\(problem.detail); and guest \(name), which had it, can't have it again: \(error.detail)",
            remedy: error.remedy ?? problem.remedy)
    }

    func tellOfSwitch(_ id: DeviceID, from old: String, to new: String, operation: Int) {
        let steps = operationLog[operation]?.info.steps ?? []
        // From W4 on: before it the guest worked with it.
        let began = steps.last { $0.name == Self.draining || $0.name == Self.quiescing }?.atMilliseconds ?? 0
        let time = ((steps.last?.atMilliseconds ?? 0) - began).rounded()
        for guest in [old, new] { noteChange(.switch, of: guest) }
        emit(.switched, guest: new, device: id, detail: "from \(old) in \(Int(time)) ms")
    }

    // MARK: - The queue

    /// Returns once the device is the operation's: free before, or (not for a request) attached to another guest, which it
    /// is to be taken from; with `wait` only when that doesn't seem to use it.
    private func turn(_ id: DeviceID, _ move: Move, operation: Int) async throws(Problem) -> Attachment? {
        let deadline = move.release.flatMap {
            $0.onDeadline == .wait ? nil : ContinuousClock.now + (move.patience ?? $0.deadline)
        }
        var asked: String?
        var told: String?
        while true {
            try checkCancelled(operation)
            try checkMayTake(move.guest)
            let isFirst = firstReady(for: id)?.operation == operation
            var reason = waitReason(id, operation)
            switch standing(of: id, to: operation) {
            case .given where guestRegistry[move.guest]?.state == .loaded: return nil
            case .given:
                settle(id)
                continue
            case .free where isFirst:
                reserve(id, for: move.guest, operation)
                return nil
            case .attached(let attachment) where attachment.guest == move.guest:
                throw Problem(
                    .conflict, "guest \(move.guest) has device \(id) already", remedy: "there is nothing to do")
            case .attached(let attachment) where isFirst:
                try move.check(attachment)
                if asked != attachment.guest { ask(attachment, for: move.guest) }
                asked = attachment.guest
                guard let release = move.release else { break }
                try checkMayHaveMore(move.guest)
                let use = release.onDeadline == .wait ? useReasons(of: attachment).first : nil
                if let use {
                    reason = "\(id): \(use.text)"
                    break
                }
                mark([attachment], by: operation)
                deviceRegistry[id]?.next = DeviceEntry.Handover(operation: operation, guest: move.guest)
                return attachment
            case .away, .free, .attached, .changing: break
            }
            if let deadline, ContinuousClock.now >= deadline { throw late(id, move, reason) }
            if reason != told { operationLog.step(operation, "waiting for \(reason)") }
            told = reason
            // Whether somebody uses it nobody tells.
            let isLooking = isFirst && move.release?.onDeadline == .wait
            await awaitNews(of: id, until: isLooking ? .now + .milliseconds(100) : deadline, operation: operation)
        }
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
    private func firstReady(for id: DeviceID) -> DeviceQueue.Waiter? {
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

    // MARK: - Holds

    func hold(_ name: String, _ request: HoldRequest) throws(Problem) -> DeviceInfo {
        try checkRunning()
        let id = try deviceRegistry.resolve(name)
        guard let entry = deviceRegistry[id], entry.attachment != nil, !entry.hasLeft else {
            throw Problem(.conflict, "device \(id) isn't attached", remedy: "hold it once a guest has it")
        }
        try checkIsCallers(entry.guest, id)
        let seconds = request.seconds ?? Hold.defaultLength
        deviceRegistry[id]?.hold = Hold(
            until: wallClock() + seconds, end: .now + .seconds(seconds), reason: request.reason)
        return try device(id.rawValue)
    }

    func endHold(_ name: String) throws(Problem) {
        let id = try deviceRegistry.resolve(name)
        guard let hold = deviceRegistry[id]?.hold, !hold.isOver else {
            throw Problem(.conflict, "nobody holds device \(id)", remedy: "there is nothing to end")
        }
        try checkIsCallers(deviceRegistry[id]?.guest, id)
        deviceRegistry[id]?.hold = nil
    }
}
