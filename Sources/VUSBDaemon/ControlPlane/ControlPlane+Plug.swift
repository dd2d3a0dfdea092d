// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore

/// Devices come and go.
extension ControlPlane {
    /// Begins to listen to a source.
    /// - Throws: what the source did; it's then listed by `doctor`.
    func start(_ source: any DeviceSource) throws(USBError) {
        let stream: AsyncStream<DeviceEvent>
        do {
            stream = try source.start()
        } catch {
            failedSources[source.name] = error
            throw error
        }
        sources[source.name] = source
        pumps.append(
            Task {
                for await event in stream { self.handle(event, from: source.name) }
            }
        )
    }

    func handle(_ event: DeviceEvent, from source: String) {
        if source == importer?.name { guard noteImport(event) else { return } }
        switch event {
        case .arrived(let record): arrived(record)
        case .left(let id): left(id)
        case .refused(let id, let reason): refused(id, source: source, reason: reason)
        }
    }

    private func arrived(_ record: DeviceRecord) {
        let id = record.id
        // Whether it was refused before makes no difference now.
        _ = deviceRegistry.forgetRefusal(id)
        if let entry = deviceRegistry[id] {
            // Told twice, or on the port of one that somebody is still busy with.
            guard entry.hasLeft || entry.record != record else { return }
            if !entry.hasLeft { left(id) }
            if deviceRegistry[id] != nil {
                deviceRegistry[id]?.successor = record
                return
            }
        }
        deviceRegistry[id] = DeviceEntry(record: record)
        noteArrival(at: id)
        showHost(id)
        emit(.deviceArrived, device: id, detail: DeviceIdentity(record).description)
        for waiter in arrivalWaiters.removeValue(forKey: id) ?? [] { waiter.resume() }
        offer(id)
    }

    private func refused(_ id: DeviceID, source: String, reason: String) {
        if deviceRegistry[id] != nil { left(id) }
        deviceRegistry.refuse(id, source: source, reason: reason)
        logger.warning("device refused", metadata: ["device": "\(id)", "reason": "\(reason)"])
        emit(.deviceRefused, device: id, detail: reason)
        for waiter in arrivalWaiters.removeValue(forKey: id) ?? [] { waiter.resume() }
    }

    private func left(_ id: DeviceID) {
        if deviceRegistry.forgetRefusal(id) != nil { emit(.deviceLeft, device: id) }
        guard var entry = deviceRegistry[id] else { return }
        guard !entry.hasLeft else {
            deviceRegistry[id]?.successor = nil
            return
        }
        entry.hasLeft = true
        deviceRegistry[id] = entry
        noteDeparture(at: id)
        tree.removeHostDevice(id)
        guestRegistry.forgetReleases(of: entry.record)
        emit(.deviceLeft, device: id)
        for waiter in departureWaiters.removeValue(forKey: id) ?? [] { waiter.resume() }
        takeAway(entry)
    }

    /// What an unplug means for whoever has the device.
    private func takeAway(_ entry: DeviceEntry) {
        switch entry.holder {
        case .free: deviceRegistry[entry.record.id] = nil
        case .attaching: break  // The operation finds out when it has opened it.
        case .detaching(_, let attachment): attachment.device.disconnect()
        case .attached(let attachment): depart(attachment)
        }
    }

    /// The guest loses a device that was unplugged: at once for the guest, in the background for the host.
    func depart(_ attachment: Attachment, because cause: String = "unplugged") {
        let id = attachment.record.id
        deviceRegistry[id]?.holder = .detaching(operation: nil, attachment)
        attachment.device.disconnect()
        attachment.quiet()
        unpublish(attachment)
        count(.detach, of: attachment.guest)
        emit(.detached, guest: attachment.guest, device: id, path: attachment.path, detail: cause)
        Task {
            await self.cutOff(attachment)
            if attachment.redirect != nil { self.freeNumber(of: attachment) }
            await attachment.device.close()
            self.settle(id)
            // One that was quarantined may be trusted by now.
            self.offer(id)
            self.noteLoss(of: attachment.guest)
        }
    }

    /// The device is no longer among the guest's files.
    func unpublish(_ attachment: Attachment) {
        let departure = attachment.node == nil ? [] : tree.departure(path: attachment.path, of: attachment.guest)
        tree.detach(path: attachment.path, from: attachment.guest)
        tell(departure, attachment.guest)
        attachment.node?.end()
        // Else the guest's machine has it by that number yet.
        if attachment.redirect == nil { freeNumber(of: attachment) }
    }

    /// Its numbers may go to another device.
    func freeNumber(of attachment: Attachment) {
        change(attachment.guest) { $0.numbers.free(attachment.slot) }
    }

    /// Nobody uses the device any more: it's available, or gone, and then the next one on its port may come.
    func settle(_ id: DeviceID) {
        guard let entry = deviceRegistry[id] else { return }
        deviceRegistry[id]?.hold = nil
        guard entry.hasLeft else {
            if handOver(id) { return }
            deviceRegistry[id]?.holder = .free
            showHost(id)
            return
        }
        deviceRegistry[id] = nil
        if let successor = entry.successor { arrived(successor) }
    }

    /// Gives a free device to its heir.
    func offer(_ id: DeviceID, excluding excluded: String? = nil) {
        deviceQueue.tell(id)
        guard phase == .running, let entry = deviceRegistry[id], case .free = entry.holder, !handOver(id) else {
            return
        }
        switch succession(of: entry.record, excluding: excluded).heir {
        // Nobody asked for it, so nobody waits: a failure is told of as an event.
        case .loaded(let guest): _ = beginAttach(id, to: guest, byHand: false)
        case .onDemand(let guest): demand(entry.record, by: guest)
        case .awaited, .nobody: break
        }
    }

    /// Gives a guest that was just loaded what it is to have and what came during its load.
    func offerAll(to guest: String) {
        for record in inheritance(of: guest) { offer(record.id) }
    }

    /// What nobody has goes to its heirs: something has changed for them.
    /// - Parameter excluded: the guest that has just failed to load, or was unloaded.
    func offerFree(excluding excluded: String? = nil) {
        for record in deviceRegistry.visible { offer(record.id, excluding: excluded) }
    }

    /// What the guest is to have, once it's loaded, of what there is: in the order in which its declaration lists it, then
    /// the rest.
    func inheritance(of name: String) -> [DeviceRecord] {
        guard let guest = guestRegistry[name] else { return [] }
        return deviceRegistry.visible
            .filter { succession(of: $0, loading: name, excluding: name).heir == .loaded(name) }
            .map { (rank: guest.rank(of: $0), record: $0) }
            .sorted { ($0.rank, $0.record.id) < ($1.rank, $1.record.id) }
            .map(\.record)
    }

    // MARK: - Emulated devices

    /// Returns once the device is known here too.
    /// - Parameter checkImage: throws where the file that a disk is to show may not be shown.
    func plugIn(
        _ specification: String, checkImage: (String) throws(Problem) -> Void = { _ in }
    ) async throws(Problem) -> DeviceID {
        guard let emulator, phase == .running else {
            throw Problem(.unavailable, "no devices are emulated now", remedy: "try again when vusbd is up")
        }
        let records: [DeviceRecord]
        do {
            if let image = try emulator.image(of: specification) { try checkImage(image) }
            records = try emulator.plugIn(specification)
        } catch let problem as Problem {
            throw problem
        } catch {
            throw Self.plugInProblem(error, specification)
        }
        // They arrive in this order, so with the last one all are known; one of them may have left again by then.
        if let last = records.last { await arrival(of: last.id) }
        guard let first = records.first else {
            throw Problem(.malformed, "\(quoted(specification)) is no device", remedy: "give KIND[=ARG]")
        }
        return first.id
    }

    private static func plugInProblem(_ error: any Error, _ specification: String) -> Problem {
        let error = error as? USBError ?? USBError(.io, "\(error)")
        return Problem(
            error.code == .busy ? .conflict : .malformed,
            "\(quoted(specification)): \(DaemonSettings.withoutPrefix(error.message))",
            remedy: error.remedy
        )
    }

    /// The emulator tells of arrivals in its stream only: wait until that got here.
    private func arrival(of id: DeviceID) async {
        if deviceRegistry[id]?.visibleRecord != nil || deviceRegistry.refusals[id] != nil { return }
        await withCheckedContinuation { arrivalWaiters[id, default: []].append($0) }
    }

    func pullOut(_ id: DeviceID) async throws(Problem) {
        guard let emulator, deviceRegistry[id]?.record.source == emulator.name else {
            throw Problem(.conflict, "device \(id) isn't emulated", remedy: "unplug it by hand")
        }
        do {
            try emulator.pullOut(id)
        } catch {
            throw Problem(error, while: "unplug of \(id)")
        }
        guard deviceRegistry[id]?.visibleRecord != nil else { return }
        await withCheckedContinuation { departureWaiters[id, default: []].append($0) }
    }
}
