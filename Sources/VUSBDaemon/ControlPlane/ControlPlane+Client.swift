// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBIP
internal import VUSBVMM

/// Mode `usbip` of a guest that vusbd gets into: its own client is run there. Attach.md of VUSBVMM has the steps and cases.
extension ControlPlane {
    // MARK: - Load

    /// A1 to A7. Whatever it fails for, but a cancellation and the machine's end, the load goes on without.
    func bringUpClient(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) {
        guard let definition = guestRegistry[name]?.definition else { return }
        let addresses = attachAddresses(of: definition)
        guard definition.machine?.agent != nil else {
            return tellRecipe(addresses, of: definition, operation: operation)
        }
        do {
            let load = try await loadClient(addresses, into: name, plan, operation: operation)
            change(name) { guest in
                guest.attachWay = load.way
                guest.modules = load.loaded.adopting(guest.modules)
            }
        } catch {
            try checkGoing(name, operation)
            let remedy = error.remedy.map { "; \($0)" } ?? ""
            operationLog.step(operation, "not attached from inside: \(error.detail)\(remedy)")
            return tellRecipe(addresses, of: definition, operation: operation)
        }
        // Before anything else can go wrong: a vusbd that is killed now finds it again.
        await persist()
        try checkGoing(name, operation)
    }

    private func loadClient(
        _ addresses: [AttachAddress], into name: String, _ plan: LoadPlan, operation: Int
    ) async throws(Problem) -> AttachLoad {
        try await awaitWork(in: name, operation: operation)
        if plan.waitsForBoot { try await awaitAgent(of: name, operation: operation) }
        let way = try await way(into: name, operation: operation)
        let (helper, before) = (tools.helper, guestRegistry[name]?.modules)
        let result = await telling(operation) { step in
            await self.work(in: name, for: self.tools.times.load, operation: operation) { () async throws(USBError) in
                try await way.loader.loadClient(addresses, helper: helper, before: before, step: step)
            }
        }
        do {
            return try result.get()
        } catch {
            throw Problem(ofGuest: error, while: "load of guest \(name)")
        }
    }

    private func tellRecipe(_ addresses: [AttachAddress], of definition: GuestDefinition, operation: Int) {
        for line in AttachRecipe.lines(addresses, isMachine: definition.machine != nil) {
            operationLog.step(operation, "its client: " + line)
        }
    }

    /// Where the guest's clients can connect without a certificate: its own addresses, else the shared ones at which it's
    /// known.
    private func attachAddresses(of definition: GuestDefinition) -> [AttachAddress] {
        let own = definition.listen.map(\.attachAddress)
        guard own.isEmpty else { return own }
        return sharedListeners.filter { $0.tls == nil && $0.address.knows(definition.clients) }
            .map(\.address.attachAddress)
    }

    // MARK: - Attach

    /// A9: has the guest's client attach a device that is offered. Where it can't, the device stays offered.
    func attachInside(_ attachment: Attachment, operation: Int) async throws(Problem) {
        let (name, id) = (attachment.guest, attachment.record.id)
        guard attachment.usbip != nil, let client = guestRegistry[name]?.attachWay else { return }
        let failure: USBError
        switch await way(into: name) {
        case .failure(let error): failure = error
        case .success(let way):
            let (path, times) = (attachment.path, tools.times)
            let result = await work(in: name, for: times.client + times.question, operation: operation) {
                () async throws(USBError) in try await way.loader.attach(path, by: client, limit: times.client)
            }
            switch result {
            case .success(let stream):
                try checkGoing(name, operation)
                return operationLog.step(operation, "\(id) attached inside, over \(stream)")
            case .failure(let error): failure = error
            }
        }
        try checkGoing(name, operation)
        let text = "\(id) isn't attached inside: \(failure.message)"
        operationLog.step(operation, "\(text); it's offered: \(client.command(attachment.path))")
        emit(.attachFailed, guest: name, device: id, path: attachment.path, detail: text)
    }
}

extension USBIPAddress {
    fileprivate var attachAddress: AttachAddress {
        switch self {
        case .tcp(let host, let port): .tcp(host: host, port: port)
        case .unix(let path): .unix(path: path)
        case .vsock(let port): .vsock(port: port)
        }
    }

    /// Whether one of these may be known at a listener there.
    fileprivate func knows(_ clients: [USBIPClient]) -> Bool {
        clients.contains { client in
            switch (self, client) {
            case (.vsock, .machine), (.unix, .user): true
            default: false
            }
        }
    }
}
