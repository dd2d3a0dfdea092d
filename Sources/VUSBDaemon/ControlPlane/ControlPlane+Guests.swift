// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// Guests are declared and removed.
extension ControlPlane {
    func declare(
        _ specification: GuestSpec, by declaration: GuestEntry.Declaration, numbers: GuestNumbers = GuestNumbers(),
        isNew: Bool
    ) throws(Problem) {
        let definition = try GuestDefinition(specification, connectors: Array(connectors.keys))
        // Before anything of it is kept.
        try guestRegistry.checkNew(definition.name)
        // One that was saved before another one took its address stays: it can't be loaded while that is.
        if isNew { try checkAddresses(of: definition) }
        try addClients(of: definition)
        try guestRegistry.add(GuestEntry(definition, declaredBy: declaration, numbers: numbers))
        tree.addGuest(definition.name, access: definition.access)
        tree.setGuestState(definition.name, GuestEntry.State.unloaded.guestText)
        if definition.isExported { export(definition.name) }
        emit(.guestAdded, guest: definition.name, detail: "declared by \(declaration.rawValue)")
    }

    func undeclare(_ name: String) throws(Problem) {
        let isExported = guestRegistry[name]?.definition.isExported == true
        try guestRegistry.remove(name)
        if isExported { exports.remove(name) }
        tree.removeGuest(name)
        nodes?.forget(name)
        usbipClients.remove(name)
        channelNews[name] = nil
        emit(.guestRemoved, guest: name)
    }

    /// Its machine can still be given the directory itself: the guest is there all the same.
    private func export(_ name: String) {
        do {
            try exports.publish(name)
        } catch {
            logger.warning("guest can't be exported", metadata: ["guest": "\(name)", "error": "\(error)"])
        }
    }

    /// Declares the configuration's guests and those that were saved, and loads those that are to be. Returns when
    /// all of them are up or have failed.
    func restore(
        _ saved: SavedState, configured: [ConfiguredGuest], claims: [ClaimSpec] = [], focus: [FocusSet] = [],
        imports: [ImportSpec] = []
    ) async {
        let memories = saved.memories
        focusTable = focus
        restoreClaims(claims, saved.claims ?? [])
        restoreImports(imports, saved.imports ?? [])
        for guest in configured { adopt(guest.specification, by: .configuration, memories) }
        for guest in saved.guests where guestRegistry[guest.name] == nil { adopt(guest, by: .control, memories) }
        exports.removeAll(except: Set(guestRegistry.sorted.filter(\.definition.isExported).map(\.definition.name)))
        for brought in saved.modules ?? [] { change(brought.guest) { $0.modules = brought.loaded } }
        restoreMajors(saved.majors ?? [])
        for chosen in saved.chosen ?? [] { change(chosen.guest) { $0.autoMode = GuestMode(rawValue: chosen.mode) } }
        for loaded in saved.loaded {
            let order = guestRegistry.nextLoad()
            change(loaded.guest) { guest in
                guest.keepsLoaded = true
                guest.loadOrder = order
                guest.held = loaded.held
                guest.released = loaded.released
            }
        }
        var running = saved.loaded.compactMap(reload)
        for guest in configured where guest.load && guestRegistry[guest.specification.name]?.state == .unloaded {
            if let operation = loadConfigured(guest.specification.name) { running.append(operation) }
        }
        for operation in running { await settled(operation) }
        restoreHolds(saved.holds ?? [])
        for loaded in saved.loaded { tellOfMissing(loaded) }
        for guest in guestRegistry.sorted {
            noteLoss(of: guest.definition.name)
            if guest.isLoadedOnDemand { demandAll(for: guest.definition.name) }
        }
    }

    /// Returns when the operation has ended. One that waits for a machine to boot goes on alone: others wait for vusbd.
    private func settled(_ operation: Int) async {
        guard let name = operationLog[operation]?.info.guest, guestRegistry[name]?.loadedMode == .module else {
            return await ended(operation)
        }
        await wait(for: operation, seconds: Self.longestRestore, afterSteps: nil)
    }

    /// Seconds that vusbd's own readiness waits for a guest in mode `module`.
    private static let longestRestore = 20.0

    private func loadConfigured(_ name: String) -> Int? {
        guard let guest = guestRegistry[name] else { return nil }
        do {
            let mode = try mode(of: guest, asked: nil)
            return beginLoad(
                name,
                LoadPlan(
                    origin: .restore, mode: mode, isAuto: guest.isAuto(nil), modulesBefore: guest.modules)
            ).id
        } catch {
            setFailed(name, because: error)
            return nil
        }
    }

    /// A guest that is loaded again without a device that it had: somebody should know why.
    private func tellOfMissing(_ loaded: SavedState.Loaded) {
        guard let guest = guestRegistry[loaded.guest], guest.state == .loaded else { return }
        for held in loaded.held where held.byHand || guest.definition.devices.contains(where: held.device.isMeant(by:))
        {
            guard !deviceRegistry.visible.contains(where: held.device.matches) else { continue }
            // One that is imported is on its way; what becomes of it is told as such.
            guard importTable[DeviceID(held.device.id)] == nil else { continue }
            logger.warning(
                "guest had a device that isn't there; it gets it when it's plugged in",
                metadata: ["guest": "\(loaded.guest)", "device": "\(held.device)"]
            )
            emit(
                .deviceMissing,
                guest: loaded.guest,
                device: DeviceID(held.device.id),
                detail: "\(held.device) isn't there; the guest gets it when it's plugged in"
            )
        }
    }

    private func adopt(
        _ specification: GuestSpec, by declaration: GuestEntry.Declaration, _ memories: [String: [GuestNumbers.Memory]]
    ) {
        do {
            let numbers = GuestNumbers(memories: memories[specification.name] ?? [])
            try declare(specification, by: declaration, numbers: numbers, isNew: false)
        } catch {
            // Such as an owner that the host doesn't have any more. The others must come up.
            logger.error(
                "guest can't be declared",
                metadata: [
                    "guest": "\(specification.name)", "error": "\(error.detail)", "remedy": "\(error.remedy ?? "")",
                ]
            )
        }
    }

    /// Nil where there is no such guest, or its process has ended.
    private func reload(_ loaded: SavedState.Loaded) -> Int? {
        guard let guest = guestRegistry[loaded.guest] else { return nil }
        if let process = loaded.process, process.state == .off {
            change(loaded.guest) { $0.noteUnloaded() }
            emit(.guestLife, guest: loaded.guest, detail: "process \(process.pid) ended while vusbd didn't run")
            return nil
        }
        do {
            let mode = try modeAgain(of: guest, loaded.mode)
            let plan = LoadPlan(
                origin: .restore, mode: mode, isAuto: guest.isAuto(loaded.mode), process: loaded.process,
                modulesBefore: guest.modules)
            return beginLoad(loaded.guest, plan).id
        } catch {
            setFailed(loaded.guest, because: error)
            return nil
        }
    }

    /// The mode that it was loaded in, unless its declaration was changed so that it can't be any more.
    private func modeAgain(of guest: GuestEntry, _ before: String?) throws(Problem) -> GuestMode {
        do {
            return try mode(of: guest, asked: before)
        } catch {
            return try mode(of: guest, asked: nil)
        }
    }
}
