// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBIP
internal import VUSBVMM

/// Devices are taken from their guest: drain, detach, reset, give back.
extension ControlPlane {
    func detach(_ name: String, _ release: Release) throws(Problem) -> OperationInfo {
        try checkRunning()
        let id = try resolve(name)
        guard let entry = deviceRegistry[id] else {
            throw Problem(.conflict, "device \(id) isn't attached", remedy: "it was refused; see `vusbctl devices`")
        }
        try checkNotChanging(entry)
        guard case .attached(let attachment) = entry.holder else {
            throw Problem(.conflict, "device \(id) isn't attached", remedy: "`vusbctl status` shows who has what")
        }
        try checkIsCallers(attachment.guest, id)
        let operation = begin(.detach, guest: attachment.guest, device: id)
        mark([attachment], by: operation)
        return run(operation) { (plane, operation) async throws(Problem) in
            try await plane.takeBack([attachment], from: attachment.guest, release, operation: operation)
            plane.noteDetached(attachment)
            await plane.persist()
            plane.noteLoss(of: attachment.guest)
            return nil
        }
    }

    /// By hand: it isn't given to the guest again by itself.
    func noteDetached(_ attachment: Attachment) {
        let (record, name) = (attachment.record, attachment.guest)
        let isNamed = claimTable.first(for: record)?.guests.contains(name) == true
        change(name) { $0.noteDetached(record, isHeir: isNamed || $0.lists(record)) }
        if isNamed { deviceRegistry[record.id]?.releasedFrom = name }
    }

    /// From here on others keep off these devices.
    func mark(_ attachments: [Attachment], by operation: Int?) {
        for attachment in attachments {
            deviceRegistry[attachment.record.id]?.holder = .detaching(operation: operation, attachment)
            showHost(attachment.record.id)
        }
    }

    /// Takes back devices that are marked as being detached, once nobody works with them; or leaves all as it was and throws
    /// `busy` or `cancelled`.
    func takeBack(
        _ attachments: [Attachment], from guest: String, _ release: Release, operation: Int
    ) async throws(Problem) {
        guard release.onDeadline == .wait else {
            return try await takeBackInTime(attachments, from: guest, release, operation: operation)
        }
        var left = attachments
        var pause = Duration.seconds(1)
        var told: String?
        while true {
            do throws(Problem) {
                return try await takeBackInTime(left, from: guest, .attempt, operation: operation)
            } catch {
                left = left.filter { attachment in
                    attached(to: guest).contains { $0.device === attachment.device }
                }
                guard error.code == .busy, !left.isEmpty else { throw error }
                operationLog.setCancellable(operation, true)
                if told != error.detail { operationLog.step(operation, "waiting: \(error.detail)") }
                told = error.detail
            }
            // Meanwhile its guest works with them as before, but others keep off.
            mark(left, by: operation)
            await sleep(pause, with: guest)
            pause = min(pause * 2, Release.longestPause)
            if Task.isCancelled {
                restore(left)
                throw Self.cancelled(operation)
            }
        }
    }

    /// Waits until nobody works with the devices, as far as their guest and vusbd know. On a failure all is as it was.
    private func awaitUse(
        of attachments: [Attachment], from guest: String, _ release: Release, operation: Int
    ) async throws(Problem) {
        let deadline = ContinuousClock.now + release.deadline
        do throws(Problem) {
            try await awaitRest(of: attachments, release, until: deadline, operation: operation)
            tellOfUnflushed(attachments, operation: operation)
            try checkStillWanted(operation, isNow: true)
            guard guestRegistry[guest]?.hasModule == true else { return }
            try await awaitUsers(of: attachments, in: guest, release, until: deadline, operation: operation)
            try checkStillWanted(operation, isNow: true)
        } catch {
            restore(attachments)
            throw error
        }
    }

    /// B2 believes what wasn't flushed for a time only: who waits is to know what is taken then.
    private func tellOfUnflushed(_ attachments: [Attachment], operation: Int) {
        for attachment in attachments where attachment.mode != .module {
            guard let text = attachment.device.storage?.reason(at: .now) else { continue }
            operationLog.step(operation, "\(attachment.record.id): taken all the same: \(text)")
        }
    }

    private func takeBackInTime(
        _ attachments: [Attachment], from guest: String, _ release: Release, operation: Int
    ) async throws(Problem) {
        let deadline = ContinuousClock.now + release.deadline
        try await awaitUse(of: attachments, from: guest, release, operation: operation)
        if guestRegistry[guest]?.hasModule == true {
            let began = ContinuousClock.now
            try await letGo(attachments, by: guest, release, until: deadline, operation: operation)
            measureDetach(of: guest, attachments.count, since: began)
            // What the guest hasn't ended by now it never will.
            return await cut(attachments, operation: operation)
        }
        try await drainAndUnplug(attachments, of: guest, release, until: deadline, operation: operation)
        // A machine that hasn't let go of a device isn't asked again.
        for attachment in attachments {
            attachment.redirect?.end()
            await attachment.usbip?.end()
        }
        await giveBack(attachments, operation: operation, areUnplugged: true)
    }

    private func drainAndUnplug(
        _ attachments: [Attachment], of guest: String, _ release: Release, until deadline: ContinuousClock.Instant,
        operation: Int
    ) async throws(Problem) {
        operationLog.step(operation, Self.draining)
        for attachment in attachments { attachment.quiet() }
        let stuck = await drain(attachments, of: guest, for: max(deadline - .now, .zero))
        if Task.isCancelled {
            restore(attachments)
            throw Self.cancelled(operation)
        }
        let inUse = attachments.filter { stuck[$0.record.id] != nil && isThere($0.record.id) }
        if let first = inUse.first, release.onDeadline == .refuse {
            restore(attachments)
            throw refusal(first, inFlight: stuck[first.record.id] ?? 0, release)
        }
        operationLog.setCancellable(operation, false)
        await cancelInFlight(inUse, operation: operation)
        operationLog.step(operation, "drained")
        do throws(Problem) {
            let began = ContinuousClock.now
            try await unplug(attachments, release, until: deadline, operation: operation)
            measureDetach(of: guest, attachments.count, since: began)
        } catch {
            restore(attachments)
            throw error
        }
    }

    /// Takes back devices that nobody is to use any more, whatever is in flight.
    func cut(_ attachments: [Attachment], operation: Int) async {
        for attachment in attachments { attachment.quiet() }
        let stuck = await shielded { await self.drain(attachments, for: .zero) }
        await cancelInFlight(attachments.filter { stuck[$0.record.id] != nil }, operation: operation)
        await giveBack(attachments, operation: operation)
    }

    /// As the other `drain`; for a guest that is gone nobody waits.
    private func drain(_ attachments: [Attachment], of guest: String, for limit: Duration) async -> [DeviceID: Int] {
        let answer = await ask(guest, for: limit + .seconds(1)) { () async throws(USBError) in
            await self.drain(attachments, for: limit)
        }
        if case .success(let stuck) = answer { return stuck }
        for attachment in attachments { attachment.device.stopAdmitting() }
        let counts = attachments.map { ($0.record.id, $0.unfinished) }
        return Dictionary(counts.filter { $0.1 > 0 }) { first, _ in first }
    }

    /// URBs in flight at the deadline, by device; those without any aren't in it.
    func drain(_ attachments: [Attachment], for limit: Duration) async -> [DeviceID: Int] {
        await withTaskGroup(of: (DeviceID, Int).self) { group in
            for attachment in attachments {
                group.addTask { (attachment.record.id, await attachment.drain(for: limit)) }
            }
            var stuck: [DeviceID: Int] = [:]
            for await (id, count) in group where count > 0 { stuck[id] = count }
            return stuck
        }
    }

    /// Whether there is a device yet that anybody may work with.
    func isThere(_ id: DeviceID) -> Bool {
        guard let entry = deviceRegistry[id] else { return false }
        return !entry.hasLeft && entry.quarantine == nil
    }

    /// Exactly as before, but for devices that were unplugged meanwhile.
    func restore(_ attachments: [Attachment]) {
        for attachment in attachments {
            let id = attachment.record.id
            guard isThere(id) else {
                depart(attachment, because: deviceRegistry[id]?.hasLeft == false ? "quarantined" : "unplugged")
                continue
            }
            attachment.device.resumeAdmitting()
            attachment.resume()
            deviceRegistry[id]?.holder = .attached(attachment)
            showHost(id)
            deviceQueue.tell(id)
            if let export = attachment.usbip, export.status.state == .resting { sessionEnded(at: export.place) }
            guard let port = attachment.redirect, port.isOver else { continue }
            Task { await self.giveUp(attachment) }
        }
    }

    func refusal(_ attachment: Attachment, inFlight: Int, _ release: Release) -> Problem {
        let id = attachment.record.id
        let detail =
            "device \(id) of guest \(attachment.guest) has \(inFlight) URB\(inFlight == 1 ? "" : "s") in flight after "
            + "\(release.deadline.inSeconds) s"
        emit(
            .detachRefused,
            guest: attachment.guest,
            device: id,
            path: attachment.path,
            detail: "\(inFlight) URB\(inFlight == 1 ? "" : "s") in flight"
        )
        return Problem(
            .busy,
            detail,
            remedy: "end what uses it, give a longer deadline, or cancel what is in flight: vusbctl's --cancel, "
                + "onDeadline: cancel"
        )
    }

    private func cancelInFlight(_ attachments: [Attachment], operation: Int) async {
        guard let guest = attachments.first?.guest else { return }
        operationLog.step(operation, "cancelling")
        for attachment in attachments { attachment.device.cancelAll() }
        let grace = guestRegistry[guest]?.isGone == true ? Release.graceOfGone : Release.graceAfterCancel
        await withTaskGroup(of: Void.self) { group in
            for attachment in attachments {
                // What doesn't come back by then is ended by the close.
                group.addTask { _ = await attachment.device.waitUntilIdle(for: grace) }
            }
        }
    }

    /// Takes the devices out of the guest's directory, resets them and gives them back to the host.
    /// - Parameter areUnplugged: the guests' machines were asked to let go of them.
    func giveBack(_ attachments: [Attachment], operation: Int?, areUnplugged: Bool = false) async {
        await withTaskGroup(of: Void.self) { group in
            for attachment in attachments {
                group.addTask { await self.giveBack(attachment, operation: operation, isUnplugged: areUnplugged) }
            }
        }
    }

    private func giveBack(_ attachment: Attachment, operation: Int?, isUnplugged: Bool) async {
        let id = attachment.record.id
        // It still drains: no URB of a file that is open yet is admitted, also not after the reset.
        unpublish(attachment)
        if !isUnplugged { await cutOff(attachment) }
        if attachment.redirect != nil { freeNumber(of: attachment) }
        if isThere(id) { await reset(attachment, operation: operation) }
        await shielded { await attachment.device.close() }
        count(.detach, of: attachment.guest)
        emit(.detached, guest: attachment.guest, device: id, path: attachment.path)
        if let operation { operationLog.step(operation, "detached \(id)") }
        settle(id)
    }

    /// The next owner gets a device without this one's state in it. A device that comes back from a reset as another
    /// one, or not at all, was unplugged: its source tells.
    func reset(_ attachment: Attachment, operation: Int?) async {
        let failure = await shielded { () -> USBError? in
            do throws(USBError) {
                try await attachment.device.reset()
                return nil
            } catch {
                return error
            }
        }
        let id = attachment.record.id
        guard let failure else {
            if let operation { operationLog.step(operation, "reset \(id)") }
            return
        }
        if failure.code != .gone {
            logger.warning("device could not be reset", metadata: ["device": "\(id)", "error": "\(failure)"])
        }
        if let operation { operationLog.step(operation, "reset of \(id) failed: \(failure.message)") }
    }
}
