// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// What the control interface asks for.
extension ControlPlane: ControlService {
    func status() -> DaemonStatus {
        let attachments = deviceRegistry.attachments
        return DaemonStatus(
            version: facts.version,
            pid: facts.pid,
            mount: facts.mount,
            uptimeSeconds: began.duration(to: .now).inSeconds,
            guests: guestRegistry.entries.count,
            devices: deviceRegistry.count,
            attachments: attachments.count,
            urbsInFlight: attachments.reduce(0) { $0 + $1.device.inFlight }
        )
    }

    // MARK: - Devices

    func devices() -> [DeviceInfo] {
        let taken = deviceRegistry.visible.compactMap { deviceRegistry[$0.id].map(info) }
        let refused = deviceRegistry.refusals.map { Self.info($0.key, $0.value) }
        return (taken + refused).sorted { $0.id < $1.id }
    }

    func device(_ name: String) throws(Problem) -> DeviceInfo { try info(resolve(name)) }

    func emulate(_ request: EmulateRequest) async throws(Problem) -> DeviceInfo {
        let id = try await plugIn(request.specification) { (image) throws(Problem) in
            try ImageRule(directory: self.facts.imageDirectory).check(image)
        }
        return try info(id)
    }

    func unplug(_ device: String) async throws(Problem) { try await pullOut(resolve(device)) }

    func type(_ request: TypeRequest, on device: String) async throws(Problem) {
        let id = try resolve(device)
        guard let emulator, deviceRegistry[id]?.record.source == emulator.name else {
            throw Problem(.conflict, "device \(id) isn't emulated", remedy: "type on an emulated keyboard")
        }
        do {
            if let text = request.text { try emulator.type(text, on: id) }
            if let keys = request.keys { try emulator.press(keys, on: id) }
        } catch {
            throw Problem(
                error.code == .invalid ? .malformed : .conflict,
                "type on \(id): \(error.message)",
                remedy: error.remedy
            )
        }
    }

    private func info(_ id: DeviceID) throws(Problem) -> DeviceInfo {
        if let refusal = deviceRegistry.refusals[id] { return Self.info(id, refusal) }
        guard let entry = deviceRegistry[id] else {
            throw Problem(.notFound, "device \(id) is gone", remedy: "plug it in again")
        }
        return info(entry)
    }

    private func info(_ entry: DeviceEntry) -> DeviceInfo {
        let record = entry.record
        let device = record.descriptors.device
        return DeviceInfo(
            id: record.id.rawValue,
            source: record.source,
            state: entry.state,
            reason: entry.quarantine?.description,
            idVendor: hexadecimal4(device.idVendor),
            idProduct: hexadecimal4(device.idProduct),
            serial: record.serial,
            manufacturer: record.manufacturer,
            product: record.product,
            speed: record.speed.rawValue,
            deviceClass: hexadecimal2(device.bDeviceClass),
            interfaces: Self.interfaces(record.descriptors),
            attachment: entry.attachment.map(info),
            hold: entry.hold.flatMap { $0.isOver ? nil : $0.info },
            waiting: deviceQueue.guests(for: record.id)
        )
    }

    /// Of the first configuration, at alternate setting 0.
    private static func interfaces(_ descriptors: Descriptors) -> [String] {
        (descriptors.configurations.first?.alternateSettings([:]) ?? []).map { interface in
            [interface.bInterfaceClass, interface.bInterfaceSubClass, interface.bInterfaceProtocol]
                .map(hexadecimal2).joined(separator: "/")
        }
    }

    /// A device whose descriptors can't be believed has none here.
    private static func info(_ id: DeviceID, _ refusal: DeviceRegistry.Refusal) -> DeviceInfo {
        DeviceInfo(
            id: id.rawValue,
            source: refusal.source,
            state: .refused,
            reason: refusal.reason,
            idVendor: hexadecimal4(0),
            idProduct: hexadecimal4(0),
            speed: DeviceSpeed.full.rawValue,
            deviceClass: hexadecimal2(0),
            interfaces: []
        )
    }

    private func info(_ attachment: Attachment) -> AttachmentInfo {
        var info = attachment.info
        info.busy = busyReasons(of: attachment).map(\.text)
        return info
    }

    // MARK: - Guests

    func guests() -> [GuestInfo] {
        guestRegistry.sorted.map(info)
    }

    func guest(_ name: String) throws(Problem) -> GuestInfo {
        info(try guestRegistry.find(name))
    }

    private func info(_ guest: GuestEntry) -> GuestInfo {
        let name = guest.definition.name
        return guest.info(
            attachments: deviceRegistry.attachments(of: name).map(info),
            channel: tree.channelStatus(of: name),
            export: exports.path(of: name),
            rule: modeRule
        )
    }

    func addGuest(_ specification: GuestSpec) async throws(Problem) -> GuestInfo {
        try checkRunning()
        try declare(specification, by: .control, isNew: true)
        let info = try guest(specification.name)
        demandAll(for: specification.name)
        await persist()
        return info
    }

    func removeGuest(_ name: String) async throws(Problem) {
        try checkRunning()
        try undeclare(name)
        await persist()
    }

    // MARK: - Operations

    func unload(_ guest: String, _ request: ReleaseRequest) throws(Problem) -> OperationInfo {
        try unload(guest, Release(request))
    }

    func attach(_ device: String, _ request: AttachRequest) throws(Problem) -> OperationInfo {
        try attach(device, to: request.guest)
    }

    func detach(_ device: String, _ request: ReleaseRequest) throws(Problem) -> OperationInfo {
        try detach(device, Release(request))
    }

    func operations() -> [OperationInfo] { operationLog.infos }

    func operation(_ id: Int, waitSeconds: Double, afterSteps: Int?) async throws(Problem) -> OperationInfo {
        let before = try operationLog.find(id).info
        await wait(for: id, seconds: waitSeconds, afterSteps: afterSteps)
        // Gone only if hundreds of others ended meanwhile.
        return operationLog[id]?.info ?? before
    }

    func cancelOperation(_ id: Int) throws(Problem) -> OperationInfo { try cancel(id) }

    // MARK: - Events

    func events(after: UInt64?) -> AsyncStream<EventInfo> {
        let (id, stream) = eventRing.listen(after: after)
        eventRing.setOnTermination(id) { [weak self] in
            Task { await self?.forgetListener(id) }
        }
        return stream
    }

    private func forgetListener(_ id: Int) { eventRing.forget(id) }

    func noteRefusal(_ text: String) { emit(.accessDenied, detail: text) }

    // MARK: - Doctor

    func doctor() async -> [Finding] {
        let own =
            sourceFindings() + nodeFindings() + refusalFindings() + busyFindings() + obstacleFindings()
            + importFindings() + usbipFindings()
        let builds = VUSBControl.HostChecks(mount: facts.mount).moduleBuilds(await modules())
        return await own + guestFindings() + store.findings() + checks() + [builds, helperFinding()]
    }
}
