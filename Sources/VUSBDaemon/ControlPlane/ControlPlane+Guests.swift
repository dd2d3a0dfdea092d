// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// Guests are declared and removed.
extension ControlPlane {
    func declare(
        _ specification: GuestSpec, by declaration: GuestEntry.Declaration, numbers: GuestNumbers = GuestNumbers()
    ) throws(Problem) {
        let definition = try GuestDefinition(specification, connectors: Array(connectors.keys))
        try guestRegistry.add(GuestEntry(definition, declaredBy: declaration, numbers: numbers))
        tree.addGuest(definition.name, access: definition.access)
        tree.setGuestState(definition.name, GuestEntry.State.unloaded.guestText)
        emit(.guestAdded, guest: definition.name, detail: "declared by \(declaration.rawValue)")
    }

    func undeclare(_ name: String) throws(Problem) {
        try guestRegistry.remove(name)
        tree.removeGuest(name)
        emit(.guestRemoved, guest: name)
    }

    /// Declares the configuration's guests and those that were saved, and loads those that are to be. Returns when
    /// all of them are up or have failed.
    func restore(_ saved: SavedState, configured: [ConfiguredGuest]) async {
        let memories = saved.memories
        for guest in configured { adopt(guest.specification, by: .configuration, memories) }
        for guest in saved.guests where guestRegistry[guest.name] == nil { adopt(guest, by: .control, memories) }
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
            running.append(beginLoad(guest.specification.name, process: nil).id)
        }
        for operation in running { await ended(operation) }
        for loaded in saved.loaded { tellOfMissing(loaded) }
    }

    /// A guest that is loaded again without a device that it had: somebody should know why.
    private func tellOfMissing(_ loaded: SavedState.Loaded) {
        guard let guest = guestRegistry[loaded.guest], guest.state == .loaded else { return }
        for held in loaded.held where held.byHand || guest.definition.devices.contains(where: held.device.isMeant(by:))
        {
            guard !deviceRegistry.visible.contains(where: held.device.matches) else { continue }
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
            try declare(specification, by: declaration, numbers: numbers)
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
        guard guestRegistry[loaded.guest] != nil else { return nil }
        if let process = loaded.process, process.state == .off {
            change(loaded.guest) { $0.noteUnloaded() }
            emit(.guestLife, guest: loaded.guest, detail: "process \(process.pid) ended while vusbd didn't run")
            return nil
        }
        return beginLoad(loaded.guest, process: loaded.process).id
    }
}
