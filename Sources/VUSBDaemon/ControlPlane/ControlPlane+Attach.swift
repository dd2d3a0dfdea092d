// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBIP
internal import VUSBVMM

/// A guest gets a device.
extension ControlPlane {
    func attach(_ name: String, to guestName: String) throws(Problem) -> OperationInfo {
        try checkRunning()
        let id = try resolve(name)
        let guest = try guestRegistry.find(guestName)
        guard guest.definition.policy == .onDemand, guest.state != .loaded, guest.state != .waiting else {
            try checkTakesDevices(guest)
            try checkFree(id, for: guestName)
            return beginAttach(id, to: guestName, byHand: true)
        }
        try checkFree(id, for: guestName)
        return try beginAttachOnDemand(id, to: guest)
    }

    /// The device is free and the guest loaded: both were checked without letting go of the actor.
    func beginAttach(_ id: DeviceID, to guest: String, byHand: Bool) -> OperationInfo {
        let operation = begin(.attach, guest: guest, device: id)
        reserve(id, for: guest, operation)
        return run(operation) { (plane, operation) async throws(Problem) in
            try await plane.attach(id, to: guest, byHand: byHand, operation: operation)
        }
    }

    /// From here on others keep off the device.
    func reserve(_ id: DeviceID, for guest: String, _ operation: Int) {
        deviceRegistry[id]?.holder = .attaching(operation: operation, guest: guest)
        showHost(id)
    }

    /// Gives a device that is reserved to a guest that is loaded.
    func attach(
        _ id: DeviceID, to guest: String, byHand: Bool, operation: Int
    ) async throws(Problem) -> AttachmentInfo {
        let attachment: Attachment
        do throws(Problem) {
            attachment = try await open(id, for: guest, operation: operation)
        } catch {
            emit(.attachFailed, guest: guest, device: id, detail: error.detail)
            throw error
        }
        noteAttached(attachment, byHand: byHand)
        tellRecipe(of: guest, [attachment.path], operation: operation)
        await persist()
        return attachment.info
    }

    /// It's this guest's now, and no other's to have again.
    func noteAttached(_ attachment: Attachment, byHand: Bool) {
        let (record, guest) = (attachment.record, attachment.guest)
        guestRegistry.forgetOthers(of: record, besides: guest, byHand: byHand)
        if byHand { deviceRegistry[record.id]?.releasedFrom = nil }
        change(guest) { $0.noteAttached(record, byHand: byHand) }
    }

    /// Opens a device that is marked as being attached, and publishes it in the guest's directory. On a failure all is
    /// undone and the device is available again.
    func open(_ id: DeviceID, for guest: String, operation: Int) async throws(Problem) -> Attachment {
        let doing = "attach of device \(id) to guest \(guest)"
        guard let record = deviceRegistry[id]?.record, let source = sources[record.source] else {
            settle(id)
            throw Problem(.notFound, "\(doing): the device is gone", remedy: "plug it in again")
        }
        operationLog.step(operation, "opening \(id)")
        let began = ContinuousClock.now
        let opened: OpenedDevice
        do {
            opened = try await source.open(record, isForced: isForced(record, for: guest))
        } catch {
            settle(id)
            try checkGoing(guest, operation)
            throw Problem(error, while: doing)
        }
        let attachment: Attachment
        do {
            attachment = try prepare(record, opened, for: guest, operation: operation)
        } catch {
            await shielded { await opened.backend.close() }
            settle(id)
            throw error
        }
        do {
            try await plug(attachment, operation: operation)
            try await attachInside(attachment, operation: operation)
            try publish(attachment, operation: operation)
            count(.attach, of: guest)
            measure(.attach, of: guest, took: ContinuousClock.now - began)
            return attachment
        } catch {
            attachment.node?.end()
            await cutOff(attachment)
            await shielded { await attachment.device.close() }
            freeNumber(of: attachment)
            settle(id)
            throw error
        }
    }

    /// Looks at the device anew, and gives it its numbers and its node or, in mode `redirect`, its socket.
    private func prepare(
        _ record: DeviceRecord, _ opened: OpenedDevice, for guest: String, operation: Int
    ) throws(Problem) -> Attachment {
        try checkIsThere(record.id, for: guest, operation: operation)
        try checkHasPort(guest, for: record)
        try checkMayHaveMore(guest)
        guard let slot = guestRegistry[guest]?.numbers.allot(for: DeviceIdentity(record)) else {
            throw Problem(
                .unavailable,
                "guest \(guest) has \(GuestSlot.count) devices, as many as can be numbered",
                remedy: "detach one first"
            )
        }
        let lane = lane(for: record, path: slot.path, of: guest)
        let device = VirtualDevice(
            backend: opened.backend,
            descriptors: record.descriptors,
            speed: record.speed,
            configurationValue: opened.configurationValue,
            alternates: opened.alternates,
            pool: pool,
            sendPool: opened.pool,
            lane: lane,
            keyboard: keyboardFilter(for: record, configurationValue: opened.configurationValue),
            health: health(of: record.id)
        )
        let mode = guestRegistry[guest]?.loadedMode ?? .files
        var attachment = Attachment(record: record, guest: guest, slot: slot, device: device, lane: lane, mode: mode)
        do {
            attachment.node = try node(for: slot, device, of: guest)
            if mode == .usbip { attachment.usbip = try usbip?.offer(device, at: attachment.usbipPlace) }
            guard mode == .redirect else { return attachment }
            let owner = guestRegistry[guest]?.definition.access.uid ?? 0
            attachment.redirect = try redirect?.serve(
                path: attachment.path, of: guest, device: device, owner: owner)
        } catch {
            change(guest) { $0.numbers.free(slot) }
            throw Problem(error, while: "attach of device \(record.id) to guest \(guest)")
        }
        return attachment
    }

    private func checkIsThere(_ id: DeviceID, for guest: String, operation: Int) throws(Problem) {
        try checkGoing(guest, operation)
        guard deviceRegistry[id]?.hasLeft == false else {
            throw Problem(
                .notFound,
                "attach of device \(id) to guest \(guest): it was unplugged meanwhile",
                remedy: "plug it in again"
            )
        }
    }

    /// One step of the actor: the device is looked at once more, then is the guest's.
    private func publish(_ attachment: Attachment, operation: Int) throws(Problem) {
        let (id, guest) = (attachment.record.id, attachment.guest)
        try checkIsThere(id, for: guest, operation: operation)
        try checkIsServed(attachment)
        try checkMayHaveMore(guest)
        try checkIsHeard(guest)
        try checkHealth(attachment)
        operationLog.setCancellable(operation, operationLog[operation]?.info.kind == Operation.Kind.load.rawValue)
        deviceRegistry[id]?.holder = .attached(attachment)
        // It has all that it wanted: what becomes of the device from here on isn't its own.
        deviceRegistry[id]?.next = nil
        leaveQueue(id, operation: operation)
        tree.attach(attachment)
        tellOfArrival(attachment)
        showHost(id)
        operationLog.step(operation, "attached \(id) as \(attachment.path)")
        emit(.attached, guest: guest, device: id, path: attachment.path)
        // C16 of Attach.md: what has ended before it was the guest's nobody has looked at.
        if attachment.usbip?.status.state == .resting { sessionEnded(at: attachment.usbipPlace) }
    }

    // MARK: - Whether it may be

    /// A guest with a module sees no more devices than there are ports on its root hubs: one for USB 3, one for slower
    /// ones.
    private func checkHasPort(_ guest: String, for record: DeviceRecord) throws(Problem) {
        guard guestRegistry[guest]?.hasModule == true, let status = tree.channelStatus(of: guest), status.ports > 0
        else { return }
        let isSuper = record.speed.isSuper
        let taken = deviceRegistry.attachments(of: guest).count { $0.record.speed.isSuper == isSuper }
        guard taken >= status.ports else { return }
        throw Problem(
            .unavailable,
            "guest \(guest) has no free port for \(record.id): all \(status.ports) of its USB \(isSuper ? 3 : 2) root hub "
                + "are taken",
            remedy: "detach a device first"
        )
    }

    func checkTakesDevices(_ guest: GuestEntry) throws(Problem) {
        let name = guest.definition.name
        switch guest.state {
        case .loaded: return try checkIsHeard(name)
        case .loading(let operation):
            throw Problem(
                .busy, "guest \(name) is being loaded by operation \(operation)", remedy: "wait for its end")
        case .draining(let operation):
            throw Problem(
                .busy, "guest \(name) is being unloaded by operation \(operation)", remedy: "load it again")
        case .unloaded, .failed:
            throw Problem(.conflict, "guest \(name) isn't loaded", remedy: "load it first: vusbctl load \(name)")
        case .waiting:
            throw Problem(.conflict, "the machine of guest \(name) is off", remedy: "start it")
        }
    }

    func checkIsHeard(_ name: String) throws(Problem) {
        guard guestRegistry[name]?.isSilent == true else { return }
        throw Problem(
            .conflict, "guest \(name) is silent: it has not written to its heartbeat file in time",
            remedy: "see what it does, or unload it")
    }

    func checkLendable(_ id: DeviceID) throws(Problem) {
        try checkTrusted(id)
        guard let refusal = deviceRegistry.refusals[id] else { return }
        throw Problem(
            .conflict,
            "device \(id) was refused: \(refusal.reason)",
            remedy: "it can't be lent as it is; unplug it, or report its descriptors"
        )
    }

    private func checkFree(_ id: DeviceID, for guest: String) throws(Problem) {
        try checkLendable(id)
        guard let entry = deviceRegistry[id] else { return }
        if case .attached(let attachment) = entry.holder, attachment.guest == guest {
            throw Problem(.conflict, "guest \(guest) has device \(id) already", remedy: "there is nothing to do")
        }
        if case .attached(let attachment) = entry.holder {
            throw Problem(
                .busy,
                "device \(id) is held by guest \(attachment.guest)",
                remedy: "take it from there by vusbctl switch, or wait for it with vusbctl request"
            )
        }
        try checkNotChanging(entry)
    }

    /// Operations on one device don't overlap.
    func checkNotChanging(_ entry: DeviceEntry) throws(Problem) {
        let id = entry.record.id
        switch entry.holder {
        case .free, .attached: return
        case .attaching(let operation, let guest):
            throw Problem(
                .conflict,
                "device \(id) is being attached to guest \(guest) by operation \(operation)",
                remedy: "wait for its end or cancel it"
            )
        case .detaching(let operation?, let attachment):
            throw Problem(
                .conflict,
                "device \(id) is being detached from guest \(attachment.guest) by operation \(operation)",
                remedy: "wait for its end or cancel it"
            )
        case .detaching(nil, _):
            throw Problem(.conflict, "device \(id) was unplugged", remedy: "plug it in again")
        }
    }
}
