// SPDX-License-Identifier: Apache-2.0

internal import Logging
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

    private func beginUnload(_ name: String, _ release: Release) -> OperationInfo {
        let operation = begin(.unload, guest: name, device: nil)
        let attachments = attached(to: name)
        mark(attachments, by: operation)
        setState(.draining(operation: operation), of: name)
        return run(operation) { (plane, operation) async throws(Problem) in
            do throws(Problem) {
                try await plane.takeBack(attachments, release, operation: operation)
            } catch {
                plane.setState(.loaded, of: name)
                // What came while it drained found no loaded guest.
                plane.offerAll(to: name)
                throw error
            }
            await plane.takeDown(name)
            plane.operationLog.step(operation, "unpublished")
            await plane.persist()
            return nil
        }
    }

    private func checkUnloadable(_ guest: GuestEntry) throws(Problem) {
        let name = guest.definition.name
        switch guest.state {
        case .loaded: break
        case .unloaded, .failed:
            throw Problem(.conflict, "guest \(name) isn't loaded", remedy: "there is nothing to unload")
        case .loading(let operation):
            throw Problem(
                .conflict,
                "guest \(name) is being loaded by operation \(operation)",
                remedy: "wait for its end or cancel it"
            )
        case .draining(let operation):
            throw Problem(
                .conflict, "guest \(name) is being unloaded by operation \(operation)", remedy: "wait for its end")
        }
        for entry in deviceRegistry.entries.values where entry.guest == name && entry.operation != nil {
            try checkNotChanging(entry)
        }
    }

    /// The operation that is at work on the guest or one of its devices.
    private func busyOperation(of name: String) -> Int? {
        switch guestRegistry[name]?.state {
        case .loading(let operation), .draining(let operation): operation
        case .unloaded, .loaded, .failed, nil:
            deviceRegistry.entries.values.first { $0.guest == name && $0.operation != nil }?.operation
        }
    }

    // MARK: - What connectors tell

    func listen(to connector: any VMMConnector) {
        let stream = connector.events()
        pumps.append(
            Task {
                for await event in stream { self.handle(event, from: connector) }
            }
        )
    }

    private func handle(_ event: VMMEvent, from connector: any VMMConnector) {
        emit(.guestLife, guest: event.guest, detail: event.detail ?? event.kind.rawValue)
        switch event.kind {
        case .resumed, .stopped, .reset: break
        // Not awaited: one guest's slow end must not keep the others' waiting.
        case .off, .panicked: Task { await self.cleanUp(after: event.guest, connector) }
        }
    }

    /// The guest has ended: what it held is taken back, whatever is in flight.
    private func cleanUp(after name: String, _ connector: any VMMConnector) async {
        while let operation = busyOperation(of: name) {
            if operationLog[operation]?.isCancellable == true { operationLog[operation]?.task?.cancel() }
            await ended(operation)
        }
        do {
            // An event from before it was loaded anew must not take the new one down.
            let now = try await connector.guests().first { $0.name == name }
            guard phase == .running, now?.state == .off, guestRegistry[name]?.state == .loaded else { return }
        } catch {
            logger.error("guest's state is unknown", metadata: ["guest": "\(name)", "error": "\(error)"])
            return
        }
        guard busyOperation(of: name) == nil else { return await cleanUp(after: name, connector) }
        // Nobody asked for it, so nobody waits: the operation logs how it ends.
        _ = beginUnload(name, .forced)
    }
}
