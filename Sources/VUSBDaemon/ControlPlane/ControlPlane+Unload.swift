// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// A guest loses USB, because somebody asked for it or because it has ended.
extension ControlPlane {
    func unload(_ name: String, _ release: Release) throws(Problem) -> OperationInfo {
        try checkRunning()
        let guest = try guestRegistry.find(name)
        try checkUnloadable(guest)
        return beginUnload(name, release)
    }

    enum UnloadCause: Sendable {
        case asked
        /// It was loaded on demand and has no device any more.
        case idle
        /// Its machine went off.
        case gone
        /// Another mode is the better one: it's loaded again in that.
        case mode

        var step: String {
            switch self {
            case .asked, .idle: "unpublished"
            case .gone: "its machine is off: it's loaded again when that is back"
            case .mode: "it's loaded again in another mode"
            }
        }
    }

    func beginUnload(_ name: String, _ release: Release, because cause: UnloadCause = .asked) -> OperationInfo {
        let operation = begin(.unload, guest: name, device: nil)
        let attachments = attached(to: name)
        let before = guestRegistry[name]?.state ?? .loaded
        let waits = [.gone, .mode].contains(cause) && guestRegistry[name]?.mayReturn == true
        mark(attachments, by: operation)
        change(name) { $0.silence = nil }
        setState(.draining(operation: operation), of: name)
        return run(operation) { (plane, operation) async throws(Problem) in
            do throws(Problem) {
                try await plane.takeBack(attachments, from: name, release, operation: operation)
                plane.operationLog.setCancellable(operation, false)
                // Where it's only the monitor that was lost, the module is there yet when it's found again.
                if cause != .gone || !waits {
                    try await plane.takeOut(of: name, release, because: cause, operation: operation)
                }
            } catch {
                plane.setState(before, of: name)
                // What came while it drained found no loaded guest, and what was taken back is its own yet.
                if before == .loaded { plane.offerAll(to: name) }
                throw error
            }
            plane.operationLog.step(operation, waits ? cause.step : UnloadCause.asked.step)
            if waits { await plane.suspend(name) } else { await plane.finishUnload(of: name) }
            plane.offerFree(excluding: name)
            if cause == .idle { plane.demandAll(for: name) }
            return nil
        }
    }

    private func finishUnload(of name: String) async {
        await takeDown(name)
        await persist()
    }

    /// Its devices are the host's again; now the module.
    /// - Throws: why it couldn't be taken out, where that is for the guest to mend.
    private func takeOut(
        of name: String, _ release: Release, because cause: UnloadCause, operation: Int
    ) async throws(Problem) {
        let began = ContinuousClock.now
        let failure = await removeModules(from: name, operation: operation)
        // A move to another mode isn't the guest's doing.
        if cause != .mode { count(.unload, of: name) }
        if failure == nil { measure(.unload, of: name, took: ContinuousClock.now - began) }
        guard let failure else { return }
        tellOfLeftovers(in: name, because: failure, operation: operation)
        guard release.onDeadline == .refuse, failure.code == .busy, hasModule(name) else { return }
        throw Problem(failure, while: "unload of guest \(name)")
    }

    /// Whether the one that has the devices is there yet: without it the guest can't stay loaded.
    private func hasModule(_ name: String) -> Bool {
        guestRegistry[name]?.modules?.modules.contains("vusb_hcd") == true
    }

    private func checkUnloadable(_ guest: GuestEntry) throws(Problem) {
        let name = guest.definition.name
        switch guest.state {
        case .loaded, .waiting: break
        case .failed where guest.isUnloadable: break
        case .unloaded, .failed:
            throw Problem(.conflict, "guest \(name) isn't loaded", remedy: "there is nothing to unload")
        case .loading(let operation):
            throw Problem(
                .busy,
                "guest \(name) is being loaded by operation \(operation)",
                remedy: "wait for its end or cancel it"
            )
        case .draining(let operation):
            throw Problem(
                .busy, "guest \(name) is being unloaded by operation \(operation)", remedy: "wait for its end")
        }
        for entry in deviceRegistry.entries.values where entry.guest == name && entry.operation != nil {
            try checkNotChanging(entry)
        }
    }
}
