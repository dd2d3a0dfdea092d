// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBIP
internal import VUSBRedir
internal import VUSBVMM

/// Whether guests work with their devices, and waiting until they don't. Arbiter.md has the rows.
extension ControlPlane {
    /// Why the device isn't taken just now, as far as it's known here: B6 only the guest's kernel knows.
    func busyReasons(of attachment: Attachment) -> [BusyReason] {
        var reasons = useReasons(of: attachment)
        let count = attachment.unfinished
        if count > 0 {
            reasons.append(BusyReason(row: .inFlight, text: "\(count) URB\(count == 1 ? "" : "s") in flight"))
        }
        return reasons
    }

    /// B1 to B5: what ends only when somebody stops working with the device.
    func useReasons(of attachment: Attachment) -> [BusyReason] {
        [heldReason, fileReason, nodeReason, workReason, writeReason].compactMap { $0(attachment) }
    }

    private func heldReason(_ attachment: Attachment) -> BusyReason? {
        guard let hold = deviceRegistry[attachment.record.id]?.hold, !hold.isOver else { return nil }
        return BusyReason(row: .held, text: "somebody holds it" + (hold.reason.map { ": " + $0 } ?? ""))
    }

    /// A disk's cache outlives the reset of a switch: what isn't flushed shows that somebody may be about to write more.
    /// Linux never flushes some file systems, so that is believed for a time. In mode `module` the guest's own kernel says
    /// who uses the disk, and flushes it as it lets go.
    private func writeReason(_ attachment: Attachment) -> BusyReason? {
        guard attachment.mode != .module, let storage = attachment.device.storage,
            let last = storage.lastUnflushedChange ?? storage.beganAt, let text = storage.reason(at: .now)
        else { return nil }
        if case .dirty = storage.condition, .now - last > tools.times.flush { return nil }
        return BusyReason(row: .unflushed, text: text)
    }

    private func fileReason(_ attachment: Attachment) -> BusyReason? {
        let count = tree.openHandles(path: attachment.path, of: attachment.guest)
        guard count > 0 else { return nil }
        return BusyReason(row: .openFiles, text: "\(count) endpoint file\(count == 1 ? " is" : "s are") open")
    }

    private func nodeReason(_ attachment: Attachment) -> BusyReason? {
        attachment.nodeUsers.map { BusyReason(row: .nodeUsers, text: "\($0) works with its node") }
    }

    /// One that is paused goes on later with what it was at.
    private func workReason(_ attachment: Attachment) -> BusyReason? {
        if guestRegistry[attachment.guest]?.pausedInUse.contains(attachment.record.id) == true {
            return BusyReason(row: .workedWith, text: "its machine was paused while it worked with it")
        }
        guard attachment.isWorkedWith(within: tools.times.rest) else { return nil }
        return BusyReason(row: .workedWith, text: "its machine works with it")
    }

    /// Waits until nobody works with the devices. Interrupt endpoints, which every driver polls, don't count.
    func awaitRest(
        of attachments: [Attachment], _ release: Release, until deadline: ContinuousClock.Instant, operation: Int
    ) async throws(Problem) {
        var told: (DeviceID, BusyReason.Row)?
        while let (busy, reason) = firstInUse(of: attachments), guestRegistry[busy.guest]?.isGone == false {
            guard ContinuousClock.now < deadline else {
                guard release.onDeadline == .refuse else {
                    return operationLog.step(operation, "in use yet: \(busy.record.id): \(reason.text)")
                }
                throw use(of: busy, reason, release)
            }
            if told.map({ $0 != (busy.record.id, reason.row) }) ?? true {
                operationLog.step(operation, "waiting for \(busy.record.id): \(reason.text)")
            }
            told = (busy.record.id, reason.row)
            await sleep(min(.milliseconds(50), deadline - .now), with: busy.guest)
            try checkCancelled(operation)
            try checkStillWanted(operation)
        }
    }

    private func firstInUse(of attachments: [Attachment]) -> (Attachment, BusyReason)? {
        for attachment in attachments where isThere(attachment.record.id) {
            if let reason = useReasons(of: attachment).first { return (attachment, reason) }
        }
        return nil
    }

    /// What the guest's machine was at when it was paused.
    func notePause(of name: String) {
        let window = tools.times.rest
        let used = attached(to: name).filter { $0.redirect != nil && $0.isWorkedWith(within: window) }
        change(name) { $0.pausedInUse = Set(used.map(\.record.id)) }
    }

    private func use(of attachment: Attachment, _ reason: BusyReason, _ release: Release) -> Problem {
        let (id, name) = (attachment.record.id, attachment.guest)
        emit(
            .detachRefused, guest: name, device: id, path: attachment.path, detail: "in use: \(reason.text)",
            guestDetail: "in use")
        return Problem(
            .busy, "guest \(name) uses device \(id) yet after \(release.deadline.inSeconds) s: \(reason.text)",
            remedy: Self.remedy(reason.row, id) + ", give a longer deadline, or take it away all the same: vusbctl's "
                + "--cancel, onDeadline: cancel"
        )
    }

    private static func remedy(_ row: BusyReason.Row, _ id: DeviceID) -> String {
        switch row {
        case .held: "end the hold (vusbctl hold \(id) --end)"
        case .unflushed: "unmount it in the guest, or sync"
        case .workedWith: "end what uses it in the guest, let a paused machine go on (QMP: cont)"
        case .openFiles, .nodeUsers, .inFlight: "end what uses it"
        }
    }
}

extension Attachment {
    /// Whether the guest's machine works with it. A disk has nothing in flight between two commands: a short while is
    /// looked at.
    fileprivate func isWorkedWith(within window: Duration) -> Bool {
        if let idle = usbip?.status.idle { return idle < window }
        guard let status = redirect?.status else { return false }
        return status.streams > 0 || status.idle.map { $0 < window } ?? false
    }
}
