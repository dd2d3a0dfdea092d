// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// A guest gets USB: its directory is published, and what it is to have attached.
extension ControlPlane {
    func load(_ name: String, _ request: LoadRequest) throws(Problem) -> OperationInfo {
        try checkRunning()
        let guest = try guestRegistry.find(name)
        // Only whether there is such a mode: connectors have one each so far.
        _ = try mode(of: guest, asked: request.mode)
        try checkLoadable(guest)
        let process = try request.process.map { (pid) throws(Problem) in try Self.process(pid, of: name) }
        return beginLoad(name, process: process)
    }

    func beginLoad(_ name: String, process: GuestProcess?) -> OperationInfo {
        let operation = begin(.load, guest: name, device: nil)
        let order = guestRegistry.nextLoad()
        change(name) { guest in
            guest.process = process
            if guest.loadOrder == 0 || !guest.keepsLoaded { guest.loadOrder = order }
        }
        setState(.loading(operation: operation), of: name)
        return run(operation) { (plane, operation) async throws(Problem) in
            do throws(Problem) {
                try await plane.bringUp(name, process: process, operation: operation)
            } catch {
                await plane.undoLoad(name, because: error, operation: operation)
                throw error
            }
            return nil
        }
    }

    private func bringUp(_ name: String, process: GuestProcess?, operation: Int) async throws(Problem) {
        guard let guest = guestRegistry[name], let connector = connectors[guest.definition.connector] else { return }
        do {
            try await connector.bind(name, process: process)
        } catch {
            throw Problem(error, while: "load of guest \(name)")
        }
        operationLog.step(operation, "bound")
        try checkCancelled(operation)
        tree.setGuestPublished(name, true)
        operationLog.step(operation, "published")
        try await attachAll(to: name, operation: operation)
        // From here to the end of the function nothing else runs: what comes now is offered as to any loaded guest.
        change(name) { $0.keepsLoaded = true }
        operationLog.setCancellable(operation, false)
        setState(.loaded, of: name)
        offerAll(to: name)
        await persist()
    }

    /// Attaches one device after the other. One that can't be had is told of, and doesn't keep the guest down.
    private func attachAll(to name: String, operation: Int) async throws(Problem) {
        var tried: Set<DeviceID> = []
        while let id = nextDevice(for: name, operation: operation, tried: &tried) {
            try checkCancelled(operation)
            deviceRegistry[id]?.holder = .attaching(operation: operation, guest: name)
            showHost(id)
            do {
                let attachment = try await open(id, for: name, operation: operation)
                change(name) { $0.noteAttached(attachment.record, byHand: false) }
            } catch {
                try checkCancelled(operation)
                operationLog.step(operation, "\(id) not attached: \(error.detail)")
                emit(.attachFailed, guest: name, device: id, detail: error.detail)
            }
        }
        try checkCancelled(operation)
    }

    private func nextDevice(for name: String, operation: Int, tried: inout Set<DeviceID>) -> DeviceID? {
        for record in wanted(by: name) {
            guard let entry = deviceRegistry[record.id], tried.insert(record.id).inserted else { continue }
            if case .free = entry.holder, !guestRegistry.isPromised(record, besides: name) { return record.id }
            guard let holder = entry.guest, holder != name else { continue }
            let detail = "device \(record.id) is held by guest \(holder)"
            operationLog.step(operation, "\(record.id) not attached: \(detail)")
            emit(.attachFailed, guest: name, device: record.id, detail: detail)
        }
        return nil
    }

    /// Leaves nothing of a load that failed or was cancelled.
    private func undoLoad(_ name: String, because problem: Problem, operation: Int) async {
        let attachments = attached(to: name)
        mark(attachments, by: operation)
        // Whatever is still in flight is cancelled below.
        _ = await shielded { await self.drain(attachments, for: .zero) }
        await giveBack(attachments, operation: operation)
        await takeDown(name)
        if problem.code != .cancelled {
            setState(.failed(reason: problem.detail), of: name)
        }
        await persist()
    }

    /// The end of every unload: the directory vanishes and nobody watches the guest.
    func takeDown(_ name: String) async {
        tree.setGuestPublished(name, false)
        if let guest = guestRegistry[name] { await connectors[guest.definition.connector]?.unbind(name) }
        change(name) { $0.noteUnloaded() }
        setState(.unloaded, of: name)
    }

    /// Devices that the guest has and that nobody takes away just now.
    func attached(to name: String) -> [Attachment] {
        deviceRegistry.attachments(of: name).filter { attachment in
            if case .attached = deviceRegistry[attachment.record.id]?.holder { true } else { false }
        }
    }

    // MARK: - Whether it may be

    private func checkLoadable(_ guest: GuestEntry) throws(Problem) {
        let name = guest.definition.name
        switch guest.state {
        case .unloaded, .failed: return
        case .loaded:
            throw Problem(.conflict, "guest \(name) is loaded already", remedy: "unload it first to load it anew")
        case .loading(let operation):
            throw Problem(
                .conflict, "guest \(name) is being loaded by operation \(operation)", remedy: "wait for its end")
        case .draining(let operation):
            throw Problem(
                .conflict, "guest \(name) is being unloaded by operation \(operation)", remedy: "wait for its end")
        }
    }

    private func mode(of guest: GuestEntry, asked: String?) throws(Problem) -> GuestMode {
        let name = guest.definition.name
        let modes = connectors[guest.definition.connector]?.modes ?? []
        let wanted = try asked.map { (text) throws(Problem) in try GuestFields(guest: name).mode(text) }
        guard let mode = wanted ?? guest.definition.mode ?? modes.first, modes.contains(mode) else {
            throw Problem(
                .conflict,
                "connector \(guest.definition.connector) has no such mode for guest \(name)",
                remedy: "load it with mode auto, or one of \(modes.map(\.rawValue).joined(separator: ", "))"
            )
        }
        return mode
    }

    private static func process(_ pid: Int, of guest: String) throws(Problem) -> GuestProcess {
        do {
            return try GuestProcess(pid: pid)
        } catch {
            throw Problem(.conflict, "load of guest \(guest): \(error.message)", remedy: error.remedy)
        }
    }
}
