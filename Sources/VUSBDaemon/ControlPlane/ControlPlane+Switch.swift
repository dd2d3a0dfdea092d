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
        let id = try resolve(name)
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
        for guest in [old, new] { count(.switch, of: guest) }
        emit(.switched, guest: new, device: id, detail: "from \(old) in \(Int(time)) ms")
    }
}
