// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// What connectors tell of guests' lives. States.md has a table of what follows.
extension ControlPlane {
    func listen(to connector: any VMMConnector) {
        let stream = connector.events()
        pumps.append(
            Task {
                for await event in stream { self.handle(event, from: connector.name) }
            }
        )
    }

    private func handle(_ event: VMMEvent, from connector: String) {
        guard let guest = guestRegistry[event.guest], guest.definition.connector == connector else { return }
        emit(.guestLife, guest: event.guest, detail: event.detail ?? event.kind.rawValue)
        machineGates[event.guest]?.open()
        if let machine = event.kind.state { change(event.guest) { $0.machine = machine } }
        if event.kind == .stopped { notePause(of: event.guest) } else { change(event.guest) { $0.pausedInUse = [] } }
        switch event.kind {
        case .stopped: if guest.state == .waiting { Task { await self.bringBack(event.guest) } }
        // Not awaited: one guest's slow end must not keep the others' waiting. A guest that is being loaded for the
        // first time hears of its machine as well, and isn't to be loaded again where that fails.
        case .started, .resumed:
            if guest.isGone || isToReturn(event.guest) { Task { await self.bringBack(event.guest) } }
            if event.kind == .resumed { followFocus(to: event.guest) }
        // A machine that starts anew keeps what is plugged into it.
        case .reset where guest.loadedMode == .redirect: break
        case .off, .panicked, .reset: lose(guest)
        }
    }

    /// The guest has forgotten all: from this moment on nobody waits for it.
    func lose(_ guest: GuestEntry) {
        let name = guest.definition.name
        switch guest.state {
        case .loading, .loaded, .draining: break
        case .unloaded, .failed, .waiting: return
        }
        // An event from before it was loaded anew must not take the new one down.
        if let process = guest.process, process.state != .off { return }
        change(name) { $0.isGone = true }
        guestCalls.giveUp(name, Self.gone(name))
        for attachment in deviceRegistry.attachments(of: name) {
            attachment.device.stopAdmitting()
            attachment.device.cancelAll()
        }
        Task { await self.takeAll(from: name) }
    }

    /// Takes back what a guest held that is gone. Whatever is at work on it ends by itself now; what comes out of that
    /// is looked at anew.
    private func takeAll(from name: String) async {
        while let operation = busyOperation(of: name) { await ended(operation) }
        guard phase == .running, let guest = guestRegistry[name] else { return }
        if guest.isGone, guest.state == .loaded {
            // Nobody asked for it, so nobody waits: the operation logs how it ends.
            let operation = beginUnload(name, .forced, because: .gone).id
            operationLog.setCancellable(operation, false)
            await ended(operation)
        }
        await bringBack(name)
    }

    /// Loads a guest that waits for its machine, if that runs.
    func bringBack(_ name: String) async {
        while let operation = busyOperation(of: name) { await ended(operation) }
        // A machine that is paused can be plugged into.
        let isPausedEnough = guestRegistry[name]?.loadedMode == .redirect
        guard isToReturn(name), await isUp(name, isPausedEnough: isPausedEnough), isToReturn(name),
            let guest = guestRegistry[name]
        else { return }
        let plan = LoadPlan(
            origin: guest.isMoving ? .move : .comeback, mode: guest.loadedMode ?? .files, isAuto: guest.isModeAuto,
            modulesBefore: guest.modules)
        _ = beginLoad(name, plan)
    }

    private func isToReturn(_ name: String) -> Bool {
        guard phase == .running, let guest = guestRegistry[name], guest.keepsLoaded, guest.isBound else { return false }
        switch guest.state {
        case .waiting, .failed: return true
        case .unloaded, .loading, .loaded, .draining: return false
        }
    }

    /// The operation that is at work on the guest or one of its devices.
    private func busyOperation(of name: String) -> Int? {
        guestRegistry[name]?.state.operation
            ?? deviceRegistry.entries.values.first { $0.guest == name && $0.operation != nil }?.operation
    }

    // MARK: - Whether a machine runs

    /// Why nothing is heard of the guest's machine, where that isn't just off.
    func fault(of name: String) async -> USBError? {
        guard let guest = guestRegistry[name] else { return nil }
        return await connectors[guest.definition.connector]?.fault(of: name)
    }

    /// Whether the guest can be loaded now, as its connector knows it.
    /// - Parameter isPausedEnough: whether one that is paused counts: nothing is asked of its kernel.
    func isUp(_ name: String, isPausedEnough: Bool = false) async -> Bool {
        guard let guest = guestRegistry[name], let connector = connectors[guest.definition.connector] else {
            return false
        }
        do {
            let state = try await connector.guests().first { $0.name == name }?.state
            change(name) { $0.machine = state }
            switch state {
            case .running, .unknown: return true
            case .stopped where isPausedEnough: return true
            case .stopped, .off, nil: return false
            }
        } catch {
            logger.error("guest's state is unknown", metadata: ["guest": "\(name)", "error": "\(error)"])
            return false
        }
    }

    /// As `isUp`; a monitor that was just connected to gets a moment to say so.
    func isUp(_ name: String, within limit: Duration, isPausedEnough: Bool) async -> Bool {
        let deadline = ContinuousClock.now + limit
        let gate = Gate()
        machineGates[name] = gate
        defer { machineGates[name] = nil }
        if await isUp(name, isPausedEnough: isPausedEnough) { return true }
        _ = await ask(name, for: deadline - .now) { () async throws(USBError) in await gate.wait() }
        return await isUp(name, isPausedEnough: isPausedEnough)
    }
}

extension VMMEvent.Kind {
    /// How the machine is from then on; nil where that hasn't changed.
    fileprivate var state: VMMGuest.State? {
        switch self {
        case .started, .resumed: .running
        case .stopped: .stopped
        case .off, .panicked: .off
        case .reset: nil
        }
    }
}
