// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore

/// All devices of a set go to one guest, or none. Arbiter.md has the rows, F1 to F8.
extension ControlPlane {
    func focusSets() -> [FocusInfo] {
        focusTable.map { set in
            set.info(set.members(of: deviceRegistry.visible).map { ($0.id, deviceRegistry[$0.id]?.attachment?.guest) })
        }
    }

    func focus(_ request: FocusRequest) throws(Problem) -> OperationInfo {
        try checkRunning()
        let guest = try guestRegistry.find(request.guest)
        let set = try focusSet(request.set, for: request.guest)
        try checkTakesDevices(guest)
        let onDeadline: ReleaseRequest.OnDeadline = request.onDeadline == .cancel ? .cancel : .refuse
        let release = try Release(
            ReleaseRequest(deadlineSeconds: request.deadlineSeconds, onDeadline: onDeadline))
        return beginFocus(set, on: request.guest, release, mayCancelOf: Caller.guests)
    }

    private func focusSet(_ name: String?, for guest: String) throws(Problem) -> FocusSet {
        let sets = focusTable.filter { name == nil || $0.name == name }
        guard !sets.isEmpty else {
            throw Problem(
                .notFound, name.map { "no focus set '\($0)'" } ?? "there is no focus set",
                remedy: "declare it in vusb.yaml, under `focus`")
        }
        let fitting = sets.filter { $0.guests.contains(guest) }
        guard let set = fitting.first else {
            throw Problem(
                .conflict, "guest \(guest) is in no such focus set",
                remedy: "name it in vusb.yaml, among the `guests` of \(sets.map(\.name).joined(separator: ", "))")
        }
        guard fitting.count == 1 else {
            throw Problem(
                .malformed, "guest \(guest) is in several focus sets: \(fitting.map(\.name).joined(separator: ", "))",
                remedy: "name one: vusbctl focus --set NAME")
        }
        return set
    }

    // MARK: - The hot key, and machines that resume

    /// A keyboard of a set that keys move watches for its chord.
    func keyboardFilter(for record: DeviceRecord, configurationValue: UInt8) -> KeyboardFilter? {
        guard let set = focusTable.first(where: { $0.chord != nil && $0.has(record) }), let chord = set.chord else {
            return nil
        }
        let name = set.name
        return KeyboardFilter(chord, record.descriptors, configurationValue: configurationValue) { [weak self] digit in
            Task { await self?.chordPressed(digit, set: name) }
        }
    }

    private func chordPressed(_ digit: UInt8, set name: String) {
        guard phase == .running, let set = focusTable.first(where: { $0.name == name }) else { return }
        guard let guest = set.guest(digit: digit), let entry = guestRegistry[guest] else {
            return logger.notice("hot key of no guest", metadata: ["set": "\(name)", "digit": "\(digit)"])
        }
        do {
            try checkTakesDevices(entry)
            giveUpChord(of: name)
            chordOperations[name] = beginFocus(set, on: guest, .ordinary).id
        } catch {
            logger.notice("hot key", metadata: ["set": "\(name)", "guest": "\(guest)", "error": "\(error.detail)"])
        }
    }

    /// Of several chords, one after the other, the last counts; the first may be at work already.
    private func giveUpChord(of set: String) {
        guard let last = chordOperations[set], focusing[set] != last, operationLog[last]?.hasEnded == false else {
            return
        }
        operationLog[last]?.task?.cancel()
    }

    /// F8
    func followFocus(to guest: String) {
        guard phase == .running else { return }
        for set in focusTable where set.follows && set.guests.contains(guest) {
            guard guestRegistry[guest]?.state == .loaded else { continue }
            beginFocus(set, on: guest, .ordinary)
        }
    }

    // MARK: - Moving

    /// A device that was taken for the set.
    private struct Taken: Sendable {
        var id: DeviceID
        /// Whom it was taken from; nil where it was free.
        var previous: Attachment?
        var wasByHand = false
        /// As the new guest has it.
        var given: Attachment?
    }

    @discardableResult
    private func beginFocus(
        _ set: FocusSet, on guest: String, _ release: Release, mayCancelOf: Set<String>? = nil
    ) -> OperationInfo {
        let operation = begin(.focus, guest: guest, device: nil)
        return run(operation) { (plane, operation) async throws(Problem) in
            try await plane.awaitTurn(of: set, operation: operation)
            let result: Result<Void, Problem>
            do throws(Problem) {
                result = .success(
                    try await plane.moveAll(
                        of: set, to: guest, release, mayCancelOf, operation: operation))
            } catch {
                result = .failure(error)
            }
            plane.endFocus(of: set, on: guest, operation: operation)
            try result.get()
            return nil
        }
    }

    /// F2: one after the other, so that a set is never at two guests.
    private func awaitTurn(of set: FocusSet, operation: Int) async throws(Problem) {
        while let other = focusing[set.name] {
            operationLog.step(operation, "waiting for operation \(other)")
            await wait(for: other, seconds: Self.longestWait, afterSteps: nil)
            try checkCancelled(operation)
        }
        focusing[set.name] = operation
    }

    private func endFocus(of set: FocusSet, on guest: String, operation: Int) {
        focusing[set.name] = nil
        for id in deviceQueue.leaveAll(operation: operation) {
            inheritPriority(id)
            deviceQueue.tell(id)
        }
        for id in deviceRegistry.entries.keys {
            if deviceRegistry[id]?.next?.operation == operation { deviceRegistry[id]?.next = nil }
            if case .attaching(operation, _)? = deviceRegistry[id]?.holder { settle(id) }
        }
        offerFree()
        noteLoss(of: guest)
    }

    private func moveAll(
        of set: FocusSet, to guest: String, _ release: Release, _ mayCancelOf: Set<String>?, operation: Int
    ) async throws(Problem) {
        var taken: [Taken] = []
        try await awaitRest(of: set, for: guest, release, operation: operation)
        do throws(Problem) {
            for record in members(of: set) where !has(guest, record.id) {
                taken.append(try await take(record, of: set, for: guest, release, mayCancelOf, operation: operation))
            }
            for index in taken.indices {
                try checkTakesDevices(try guestRegistry.find(guest))
                taken[index].given = try await open(taken[index].id, for: guest, operation: operation)
            }
        } catch {
            let undone = taken
            throw await shielded { await self.undo(undone, at: guest, because: error, operation: operation) }
        }
        // Only now: what comes of one that can't be opened is as if it had never been.
        for attachment in taken.compactMap(\.given) { noteAttached(attachment, byHand: true) }
        await persist()
        for device in taken {
            guard let previous = device.previous?.guest else { continue }
            tellOfSwitch(device.id, from: previous, to: guest, operation: operation)
            noteLoss(of: previous)
        }
    }

    /// Those that can be lent.
    private func members(of set: FocusSet) -> [DeviceRecord] {
        set.members(of: deviceRegistry.visible).filter { deviceRegistry[$0.id]?.quarantine == nil }
    }

    private func has(_ guest: String, _ id: DeviceID) -> Bool {
        guard case .attached(let attachment)? = deviceRegistry[id]?.holder else { return false }
        return attachment.guest == guest
    }

    /// Before the first is taken: all of them can be had, and nobody works with any. What then comes in between undoes it all.
    private func awaitRest(
        of set: FocusSet, for guest: String, _ release: Release, operation: Int
    ) async throws(Problem) {
        var awaited: [Attachment] = []
        for record in members(of: set) where !has(guest, record.id) {
            try checkHolder(of: record.id, set, for: guest)
            guard case .attached(let attachment)? = deviceRegistry[record.id]?.holder else { continue }
            if !record.isInput || isHeld(record.id) { awaited.append(attachment) }
        }
        operationLog.setCancellable(operation, true)
        try await awaitRest(of: awaited, release, until: .now + release.deadline, operation: operation)
    }

    /// F4
    private func checkHolder(of id: DeviceID, _ set: FocusSet, for guest: String) throws(Problem) {
        guard let holder = deviceRegistry[id]?.guest, !set.guests.contains(holder) else { return }
        throw Problem(
            .busy, "guest \(holder) has device \(id), and isn't in focus set \(set.name)",
            remedy: "take it from there: vusbctl switch \(id) \(guest)")
    }

    private func isHeld(_ id: DeviceID) -> Bool { deviceRegistry[id]?.hold.map { !$0.isOver } ?? false }

    /// F3
    private func take(
        _ record: DeviceRecord, of set: FocusSet, for guest: String, _ release: Release,
        _ mayCancelOf: Set<String>?, operation: Int
    ) async throws(Problem) -> Taken {
        let id = record.id
        try checkHolder(of: id, set, for: guest)
        operationLog.setCancellable(operation, true)
        join(record, guest: guest, operation: operation)
        let isTakenAtOnce = record.isInput && (!isHeld(id) || release.onDeadline == .cancel)
        let move = Move(
            guest: guest, release: isTakenAtOnce ? .atOnce : release, patience: release.deadline, byHand: true,
            from: Set(set.guests), mayCancelOf: mayCancelOf)
        let previous = try await takeInTurn(id, move, operation: operation)
        let wasByHand = previous.map { guestRegistry[$0.guest]?.hasByHand($0.record) == true } ?? false
        return Taken(id: id, previous: previous, wasByHand: wasByHand)
    }

    /// F5, F6: the last first, as it was.
    private func undo(_ taken: [Taken], at guest: String, because problem: Problem, operation: Int) async -> Problem {
        var problem = problem
        for device in taken.reversed() {
            if let given = device.given, case .attached(let attachment)? = deviceRegistry[device.id]?.holder,
                attachment.device === given.device
            {
                problem = await takeAgain(attachment, because: problem, operation: operation)
            }
            guard case .attaching(operation, _)? = deviceRegistry[device.id]?.holder else { continue }
            if let previous = device.previous {
                problem = await giveAgain(previous, byHand: device.wasByHand, because: problem, operation: operation)
            } else {
                settle(device.id)
            }
        }
        return problem
    }

    private func takeAgain(_ attachment: Attachment, because problem: Problem, operation: Int) async -> Problem {
        let id = attachment.record.id
        mark([attachment], by: operation)
        deviceRegistry[id]?.next = DeviceEntry.Handover(operation: operation, guest: attachment.guest)
        do {
            try await takeOver(attachment, .insistent, operation: operation)
            return problem
        } catch {
            return Problem(
                problem.code ?? .failed,
                "\(problem.detail); and guest \(attachment.guest) keeps device \(id): \(error.detail)",
                remedy: problem.remedy)
        }
    }
}
