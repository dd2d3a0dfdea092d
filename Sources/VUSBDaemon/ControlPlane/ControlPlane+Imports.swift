// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBIP

/// Devices of other USB/IP servers. States.md has the states, Imports.md of VUSBIP the protocol.
extension ControlPlane {
    /// How long a server may take to say what it lends.
    private static let longestList = Duration.seconds(10)

    // MARK: - What there is

    func imports() -> [ImportInfo] {
        let states = importStates
        return importTable.sorted.map { info($0, states[$0.id]) }
    }

    func importedDevice(_ name: String) throws(Problem) -> ImportInfo {
        let entry = try importTable.find(name)
        return info(entry, importStates[entry.id])
    }

    /// The device that a name means. One that is imported and isn't here now has a reason for that.
    func resolve(_ name: String) throws(Problem) -> DeviceID {
        do throws(Problem) {
            return try deviceRegistry.resolve(name)
        } catch {
            guard error.code == .notFound, let entry = importTable[DeviceID(name)] else { throw error }
            throw away(info(entry, importStates[entry.id]))
        }
    }

    private func away(_ info: ImportInfo) -> Problem {
        let state = info.state == .waiting ? "" : "; a try is under way"
        return Problem(
            .notFound,
            "device \(info.id), imported as \(info.busid) of \(info.server), isn't here now"
                + (info.reason.map { ": " + $0 } ?? "") + state,
            remedy: "start that server, or see what it lends: vusbctl import \(info.server). It's tried again until "
                + "`vusbctl forget \(info.id)`; a claim, or a guest that lists it, gets it once it's back")
    }

    private var importStates: [DeviceID: USBIPImportStatus] {
        Dictionary((importer?.imports() ?? []).map { ($0.id, $0) }) { first, _ in first }
    }

    private func info(_ entry: ImportTable.Entry, _ status: USBIPImportStatus?) -> ImportInfo {
        var info = ImportInfo(
            id: entry.id.rawValue, server: entry.specification.server, busid: entry.specification.busid,
            state: .connecting, reason: status?.lastFailure, since: entry.since, attempts: status?.attempts ?? 0,
            declaredBy: entry.declaredBy.rawValue)
        switch status?.state {
        case .imported: info.state = .imported
        case .waiting(let reason, let next):
            info.state = .waiting
            info.reason = reason
            info.retrySeconds = max((next - .now).inSeconds, 0)
        case .connecting, nil: break
        }
        return info
    }

    /// Asks the server anew.
    func offers(of server: String) async throws(Problem) -> [OfferInfo] {
        try checkRunning()
        guard let importer else { throw Self.noImports }
        let address = try Self.address(server)
        let list: USBIPOfferList
        do {
            list = try await importer.offers(of: address, within: Self.longestList)
        } catch {
            throw Problem(ofGuest: error, while: "list of what \(server) lends")
        }
        let names = await USBNames.read(list.offers.map { USBNames.Key(vendor: $0.vendorID, product: $0.productID) })
        let (entries, states) = (importTable.sorted, importStates)
        let offers = list.offers.map { offer in
            let entry = entries.first { $0.specification.isOf(address, offer.busID) }
            return info(offer, names, entry.map { info($0, states[$0.id]) })
        }
        return offers + list.leftOut.map { OfferInfo(busid: $0.busID, fault: $0.reason) }
    }

    private func info(_ offer: USBIPOffer, _ names: USBNames, _ imported: ImportInfo?) -> OfferInfo {
        let record = imported.flatMap { deviceRegistry[DeviceID($0.id)]?.visibleRecord }
        let own = [record?.manufacturer, record?.product].compactMap { $0 }.joined(separator: " ")
        return OfferInfo(
            busid: offer.busID, idVendor: hexadecimal4(offer.vendorID), idProduct: hexadecimal4(offer.productID),
            speed: offer.speed.rawValue, deviceClass: hexadecimal2(offer.deviceClass),
            interfaces: offer.interfaces.map { interface in
                [interface.number, interface.subclass, interface.protocolNumber].map(hexadecimal2)
                    .joined(separator: "/")
            },
            name: own.isEmpty ? names[USBNames.Key(vendor: offer.vendorID, product: offer.productID)] : own,
            kind: USBKind.text(offer), imported: imported?.id, importState: imported?.state, reason: imported?.reason)
    }

    private static let noImports = Problem(.unavailable, "this vusbd imports nothing")

    private static func address(_ text: String) throws(Problem) -> USBIPServer {
        guard let server = USBIPServer(text) else {
            throw Problem(
                .malformed, "\(quoted(text)) isn't the address of a server", remedy: "write \(Rules.serverForm)")
        }
        return server
    }

    // MARK: - Begin

    /// Returns at once; the operation ends with the first try.
    func addImport(_ request: ImportRequest) throws(Problem) -> OperationInfo {
        try checkRunning()
        let id = try declareImport(ImportSpec(request), by: .control)
        let operation = begin(.import, guest: nil, device: id)
        let isKept = request.keepTrying ?? false
        importTable[id]?.phase = .beginning(operation: operation, isKept: isKept)
        return run(operation) { (plane, operation) async throws(Problem) in
            try await plane.carryOutImport(id, isKept: isKept, operation: operation)
            return nil
        }
    }

    private func declareImport(
        _ specification: ImportSpec, by declaration: GuestEntry.Declaration
    ) throws(Problem) -> DeviceID {
        guard let importer else { throw Self.noImports }
        try importTable.checkRoom()
        let server = try Self.address(specification.server)
        guard let remote = USBIPRemote(server: server, busID: specification.busid) else {
            throw Problem(
                .malformed, "\(quoted(specification.busid)) is no busid",
                remedy: "give what the server calls the device, such as 1-2")
        }
        let id: DeviceID
        do {
            id = try importer.add(remote, name: specification.name)
        } catch {
            guard error.code == .busy else { throw Problem(error, whileImporting: specification) }
            throw Problem(
                .conflict, "import of \(specification): \(error.message)",
                remedy: error.remedy ?? "see `vusbctl imports`")
        }
        importTable[id] = ImportTable.Entry(
            id: id, specification: specification, declaredBy: declaration, phase: .kept, since: wallClock())
        emit(.importAdded, device: id, detail: "\(specification), declared by \(declaration.rawValue)")
        return id
    }

    private func carryOutImport(_ id: DeviceID, isKept: Bool, operation: Int) async throws(Problem) {
        guard let specification = importTable[id]?.specification else { throw Self.cancelled(operation) }
        operationLog.step(operation, "connecting to \(specification.server)")
        if isKept { await persist() }
        let failure = await firstTry(of: id, specification)
        if Task.isCancelled || (failure != nil && !isKept) {
            await endImport(id)
            await persist()
            throw Task.isCancelled ? Self.cancelled(operation) : failure ?? Self.cancelled(operation)
        }
        operationLog.setCancellable(operation, false)
        importTable[id]?.phase = .kept
        operationLog.step(
            operation, failure.map { "not there yet, tried again: \($0.detail)" } ?? "imported \(specification)")
        await persist()
    }

    /// Why the device isn't there after the first try; nil where it is, or where the caller was cancelled: the try goes on
    /// until it's forgotten.
    private func firstTry(of id: DeviceID, _ specification: ImportSpec) async -> Problem? {
        guard let importer else { return Self.noImports }
        let (ends, continuation) = AsyncStream.makeStream(of: USBError?.self)
        Task {
            do throws(USBError) {
                try await importer.firstTry(of: id)
                continuation.yield(nil)
            } catch {
                continuation.yield(error)
            }
            continuation.finish()
        }
        for await error in ends {
            if let error { return Problem(error, whileImporting: specification) }
            await coming(of: id)
            guard let refusal = deviceRegistry.refusals[id] else { return nil }
            return Problem(
                .conflict, "import of \(specification): refused: \(refusal.reason)",
                remedy: "what it says of itself can't be believed; it can't be lent")
        }
        return nil
    }

    /// The importer tells of it in its stream only: returns when that got here.
    private func coming(of id: DeviceID) async {
        guard importTable[id]?.hasCome == false else { return }
        await withCheckedContinuation { arrivalWaiters[id, default: []].append($0) }
    }

    /// Those of the configuration, then those that were saved. One that can't be any more must not keep the others away.
    func restoreImports(_ configured: [ImportSpec], _ saved: [ImportSpec]) {
        let all = configured.map { ($0, GuestEntry.Declaration.configuration) } + saved.map { ($0, .control) }
        for (specification, declaration) in all {
            do {
                _ = try declareImport(specification, by: declaration)
            } catch {
                logger.error(
                    "import left out",
                    metadata: [
                        "import": "\(specification)", "error": "\(error.detail)", "remedy": "\(error.remedy ?? "")",
                    ])
            }
        }
    }

    // MARK: - End

    /// Takes the device from who has it, as `detach` does, and imports it no longer.
    func forgetImport(_ name: String, _ request: ReleaseRequest) throws(Problem) -> OperationInfo {
        try checkRunning()
        let release = try Release(request)
        let entry = try importTable.find(name)
        try importTable.checkForgettable(entry)
        let id = entry.id
        if let device = deviceRegistry[id], !device.hasLeft { try checkNotChanging(device) }
        let attachment: Attachment? =
            if case .attached(let its)? = deviceRegistry[id]?.holder { its } else { nil }
        let operation = begin(.forget, guest: attachment?.guest, device: id)
        importTable[id]?.phase = .ending(operation: operation)
        if let attachment { mark([attachment], by: operation) }
        return run(operation) { (plane, operation) async throws(Problem) in
            try await plane.carryOutForget(id, attachment, release, operation: operation)
            return nil
        }
    }

    private func carryOutForget(
        _ id: DeviceID, _ attachment: Attachment?, _ release: Release, operation: Int
    ) async throws(Problem) {
        if let attachment {
            do throws(Problem) {
                try await takeBack([attachment], from: attachment.guest, release, operation: operation)
            } catch {
                importTable[id]?.phase = .kept
                throw error
            }
            noteDetached(attachment)
        }
        operationLog.setCancellable(operation, false)
        await endImport(id)
        operationLog.step(operation, "forgotten")
        await persist()
        if let attachment { noteLoss(of: attachment.guest) }
    }

    /// Whoever has the device by now loses it, as by an unplug.
    private func endImport(_ id: DeviceID) async {
        guard let entry = importTable[id] else { return }
        let importer = importer
        await shielded {
            do throws(USBError) {
                try await importer?.forget(id)
            } catch {
                // It isn't imported any more: that is what is wanted.
            }
        }
        if deviceRegistry[id]?.visibleRecord != nil {
            await withCheckedContinuation { departureWaiters[id, default: []].append($0) }
        }
        if deviceRegistry.forgetRefusal(id) != nil { emit(.deviceLeft, device: id) }
        importTable[id] = nil
        emit(.importRemoved, device: id, detail: "\(entry.specification)")
    }

    // MARK: - News

    /// What the importer tells of a device, before that is carried out.
    /// - Returns: false where the device has come too late: it isn't imported any more.
    func noteImport(_ event: DeviceEvent) -> Bool {
        switch event {
        case .arrived(let record):
            guard let entry = noteImport(record.id, isThere: true) else { return false }
            emit(.importConnected, device: record.id, detail: "\(entry.specification)")
        case .refused(let id, _): return noteImport(id, isThere: true) != nil
        case .left(let id):
            guard let entry = noteImport(id, isThere: false), entry.phase == .kept else { return true }
            var reason = "the connection is lost"
            if case .waiting(let text, _)? = importStates[id]?.state { reason = text }
            emit(.importLost, device: id, detail: "\(entry.specification): \(reason)")
        }
        return true
    }

    private func noteImport(_ id: DeviceID, isThere: Bool) -> ImportTable.Entry? {
        importTable[id]?.since = wallClock()
        if isThere {
            importTable[id]?.hasCome = true
            // Not only where it's taken up now: it may have to wait until who had it last has let go of it. They go on when
            // this event has been carried out.
            for waiter in arrivalWaiters.removeValue(forKey: id) ?? [] { waiter.resume() }
        }
        return importTable[id]
    }

    /// Imports that are away, for `doctor`; of one that was never tried yet there is nothing to say.
    func importFindings() -> [Finding] {
        imports().filter { $0.state != .imported && $0.reason != nil }.map { info in
            let times = info.attempts == 1 ? "once" : "\(info.attempts) times"
            return Finding(
                check: "import \(info.id)", level: .warning,
                summary: "\(info.busid) of \(info.server) isn't there, tried \(times): \(info.reason ?? "no reason")",
                remedy: "see what the server lends: vusbctl import \(info.server); it's tried again until "
                    + "`vusbctl forget \(info.id)`")
        }
    }
}

extension Problem {
    fileprivate init(_ error: USBError, whileImporting specification: ImportSpec) {
        let remedy = error.remedy ?? "see what the server lends: vusbctl import \(specification.server)"
        self.init(ofGuest: USBError(error.code, error.message, remedy: remedy), while: "import of \(specification)")
    }
}

extension ImportSpec {
    /// Whether it means that device, however its server is written.
    fileprivate func isOf(_ address: USBIPServer, _ busID: String) -> Bool {
        busid == busID && USBIPServer(server) == address
    }
}
