// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// A guest gets USB: its directory is published, and what it is to have attached.
extension ControlPlane {
    func load(_ name: String, _ request: LoadRequest) throws(Problem) -> OperationInfo {
        try checkRunning()
        let guest = try guestRegistry.find(name)
        let mode = try mode(of: guest, asked: request.mode)
        if guest.state == .loaded, guest.loadedMode == .files, mode == .files, guest.definition.machine == nil,
            let pid = request.process
        {
            return try adopt(pid, as: name)
        }
        try checkLoadable(guest)
        let process = try request.process.map { (pid) throws(Problem) in try Self.process(pid, of: name) }
        var plan = LoadPlan(
            origin: .hand, mode: mode, isAuto: guest.isAuto(request.mode), process: process,
            modulesBefore: guest.modules)
        if guest.state == .waiting {
            plan.awaitedMode = guest.loadedMode ?? mode
            plan.awaitsAuto = guest.isModeAuto
        }
        return beginLoad(name, plan)
    }

    func beginLoad(_ name: String, _ plan: LoadPlan) -> OperationInfo {
        let operation = begin(plan.device == nil ? .load : .attach, guest: name, device: plan.device)
        if let id = plan.device { reserve(id, for: name, operation) }
        markLoading(name, plan, operation)
        return run(operation) { (plane, operation) async throws(Problem) in
            try await plane.load(name, plan, operation: operation)
        }
    }

    /// From here on others keep off the guest.
    func markLoading(_ name: String, _ plan: LoadPlan, _ operation: Int) {
        let order = guestRegistry.nextLoad()
        change(name) { guest in
            guest.process = plan.process
            guest.loadedMode = plan.mode
            guest.isModeAuto = plan.isAuto
            guest.isGone = false
            guest.isMoving = false
            guest.silence = nil
            if guest.loadOrder == 0 || !guest.keepsLoaded { guest.loadOrder = order }
        }
        setState(.loading(operation: operation), of: name)
    }

    /// Loads a guest that is marked as being loaded; on a failure all is undone.
    func load(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) -> AttachmentInfo? {
        do throws(Problem) {
            return try await bringUp(name, plan, operation: operation)?.info
        } catch {
            await undoLoad(name, plan, because: error, operation: operation)
            throw error
        }
    }

    /// - Returns: the device that it was loaded for.
    private func bringUp(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) -> Attachment? {
        try await bind(name, plan, operation: operation)
        guard try await hasMachine(name, plan, operation: operation) else { return nil }
        let plan = try await choosingMode(name, plan, operation: operation)
        // One that is paused can be plugged into, and not loaded into.
        if plan.isAuto { guard try await hasMachine(name, plan, operation: operation) else { return nil } }
        try checkGoing(name, operation)
        try checkNodes(of: name, plan.mode)
        tree.setGuestPublished(name, true, heartbeat: guestRegistry[name]?.definition.heartbeat != nil)
        change(name) { guest in
            guest.silentSince = nil
            guest.heartbeatSince = .now
        }
        operationLog.step(operation, plan.isAuto ? "published in mode \(plan.mode.rawValue)" : "published")
        if plan.mode == .files, let text = guestRegistry[name]?.definition.filesWarning {
            operationLog.step(operation, text)
        }
        let mode = try await bringUpMode(name, plan, operation: operation)
        if mode != plan.mode { operationLog.step(operation, "published in mode \(mode.rawValue)") }
        let first = try await attachFirst(name, plan, operation: operation)
        try await attachAll(to: name, operation: operation)
        tellRecipe(of: name, attached(to: name).map(\.path), operation: operation)
        // From here to the end of the function nothing else runs: what comes now is offered as to any loaded guest.
        change(name) { $0.keepsLoaded = true }
        operationLog.setCancellable(operation, false)
        setState(.loaded, of: name)
        offerAll(to: name)
        failBack(to: name)
        await persist()
        return first
    }

    /// - Returns: false where it's waited for. Waiting isn't a failure where nobody asked for more.
    private func hasMachine(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) -> Bool {
        guard plan.mode != .files || plan.waitsForMachine else { return true }
        try await checkMachine(of: name, plan, operation: operation)
        guard guestRegistry[name]?.isGone == true, plan.device == nil else { return true }
        await suspend(name)
        operationLog.step(operation, "its machine is off: it's loaded when that is back")
        return false
    }

    private func bind(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) {
        guard let guest = guestRegistry[name], let connector = connectors[guest.definition.connector] else {
            throw Problem(.notFound, "no guest \(name)")
        }
        if guest.isBound { return }
        do {
            let place = guest.definition.place(process: guest.process)
            try await connector.bind(name, place, waits: plan.waitsForMachine)
        } catch {
            try checkCancelled(operation)
            throw Problem(error, while: "load of guest \(name)")
        }
        change(name) { $0.isBound = true }
        operationLog.step(operation, "bound")
        try checkCancelled(operation)
    }

    /// - Throws: for a load that somebody asked for; the others are marked as gone, and wait.
    private func checkMachine(of name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) {
        let isPausedEnough = plan.mode == .redirect
        guard await !isUp(name, within: tools.times.monitor, isPausedEnough: isPausedEnough) else { return }
        try checkGoing(name, operation)
        if plan.waitsForMachine { change(name) { $0.isGone = true } }
        if plan.waitsForMachine, plan.device == nil { return }
        let fault = await fault(of: name)
        throw Problem(
            .unavailable,
            "the machine of guest \(name) is off, paused, or out of reach" + (fault.map { ": " + $0.message } ?? ""),
            remedy: fault?.remedy
                ?? "start it, and see that its QMP socket is the one that the guest's declaration names"
        )
    }

    private func attachFirst(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) -> Attachment? {
        guard let id = plan.device else { return nil }
        do {
            let attachment = try await open(id, for: name, operation: operation)
            noteAttached(attachment, byHand: plan.byHand)
            return attachment
        } catch {
            emit(.attachFailed, guest: name, device: id, detail: error.detail)
            throw error
        }
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
                noteAttached(attachment, byHand: false)
            } catch {
                try checkGoing(name, operation)
                operationLog.step(operation, "\(id) not attached: \(error.detail)")
                emit(.attachFailed, guest: name, device: id, detail: error.detail)
            }
        }
        try checkGoing(name, operation)
    }

    private func nextDevice(for name: String, operation: Int, tried: inout Set<DeviceID>) -> DeviceID? {
        for record in inheritance(of: name) {
            guard case .free? = deviceRegistry[record.id]?.holder, tried.insert(record.id).inserted else { continue }
            return record.id
        }
        tellOfHeld(name, operation: operation, besides: &tried)
        return nil
    }

    /// Devices that its declaration lists and that other guests have.
    private func tellOfHeld(_ name: String, operation: Int, besides tried: inout Set<DeviceID>) {
        for record in deviceRegistry.visible where guestRegistry[name]?.lists(record) == true {
            guard let entry = deviceRegistry[record.id], tried.insert(record.id).inserted else { continue }
            guard let holder = entry.guest, holder != name else { continue }
            let detail = "device \(record.id) is held by guest \(holder)"
            operationLog.step(operation, "\(record.id) not attached: \(detail)")
            emit(.attachFailed, guest: name, device: record.id, detail: detail)
        }
    }

    /// Leaves nothing of a load that failed or was cancelled.
    private func undoLoad(_ name: String, _ plan: LoadPlan, because problem: Problem, operation: Int) async {
        if let id = plan.device, case .attaching(operation, _)? = deviceRegistry[id]?.holder { settle(id) }
        let attachments = attached(to: name)
        mark(attachments, by: operation)
        await withdraw(attachments, from: name, orderly: false, operation: operation)
        await cut(attachments, operation: operation)
        // What was there before this load stays: a restart that fails must not take a working module away.
        if guestRegistry[name]?.modules != plan.modulesBefore,
            let failure = await removeModules(from: name, operation: operation)
        {
            tellOfLeftovers(in: name, because: failure, operation: operation)
        }
        if await waitsFurther(name, plan, operation: operation) { return }
        await settleFailure(of: name, plan, because: problem)
        offerFree(excluding: name)
        await persist()
    }

    /// A load by hand of a guest that waits takes nothing from it while its machine is off.
    private func waitsFurther(_ name: String, _ plan: LoadPlan, operation: Int) async -> Bool {
        guard let mode = plan.awaitedMode, guestRegistry[name]?.isBound == true else { return false }
        if guestRegistry[name]?.isGone == false, await isUp(name) { return false }
        change(name) { guest in
            guest.process = nil
            guest.loadedMode = mode
            guest.isModeAuto = plan.awaitsAuto
        }
        operationLog.step(operation, "its machine is off: it's loaded again when that is back")
        await suspend(name)
        return true
    }

    private func settleFailure(of name: String, _ plan: LoadPlan, because problem: Problem) async {
        let returns = plan.waitsForMachine && problem.code != .cancelled
        if returns, guestRegistry[name]?.isGone == true { return await suspend(name) }
        guard returns, plan.waitsForBoot else {
            await takeDown(name)
            if problem.code != .cancelled { setFailed(name, because: problem) }
            return
        }
        // Its next start, or vusbd's, may go better: it's watched further on, and what it had is remembered.
        await hide(name)
        change(name) { $0.keepsLoaded = true }
        setFailed(name, because: problem)
    }

    func setFailed(_ name: String, because problem: Problem) {
        change(name) { $0.failureRemedy = problem.remedy }
        setState(.failed(reason: problem.detail), of: name)
    }

    /// The guest's machine is off: it has nothing, and is watched for its return.
    func suspend(_ name: String) async {
        await hide(name)
        change(name) { guest in
            guest.keepsLoaded = true
            guest.isGone = true
        }
        setState(.waiting, of: name)
        offerFree(excluding: name)
        await persist()
        // If it began to run before it was marked as gone, nobody took notice of that.
        Task { await self.bringBack(name) }
    }

    /// The end of every unload: the directory vanishes and nobody watches the guest.
    func takeDown(_ name: String) async {
        await hide(name)
        if let guest = guestRegistry[name], guest.isBound { await connectors[guest.definition.connector]?.unbind(name) }
        change(name) { guest in
            guest.isBound = false
            guest.noteUnloaded()
        }
        tellers[name] = nil
        setState(.unloaded, of: name)
    }

    func hide(_ name: String) async {
        await endListeners(of: name)
        // Not by its mode, which may be another one's by now.
        if tree.channelStatus(of: name) != nil { tree.closeChannel(of: name) }
        tree.setGuestPublished(name, false, heartbeat: false)
        change(name) { guest in
            guest.silentSince = nil
            guest.attachWay = nil
        }
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
        case .unloaded, .failed, .waiting: return
        case .loaded:
            throw Problem(.conflict, "guest \(name) is loaded already", remedy: "unload it first to load it anew")
        case .loading(let operation):
            throw Problem(
                .busy, "guest \(name) is being loaded by operation \(operation)", remedy: "wait for its end")
        case .draining(let operation):
            throw Problem(
                .busy, "guest \(name) is being unloaded by operation \(operation)", remedy: "wait for its end")
        }
    }

    func mode(of guest: GuestEntry, asked: String?) throws(Problem) -> GuestMode {
        let modes = connectors[guest.definition.connector]?.modes ?? []
        return try guest.definition.mode(asked: asked, among: modes)
    }

    static func process(_ pid: Int, of guest: String) throws(Problem) -> GuestProcess {
        do {
            return try GuestProcess(pid: pid)
        } catch {
            throw Problem(.conflict, "load of guest \(guest): \(error.message)", remedy: error.remedy)
        }
    }
}
