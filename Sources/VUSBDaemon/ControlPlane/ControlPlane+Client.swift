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
        guard definition.machine?.agent != nil else { return }
        do {
            let load = try await loadClient(addresses, into: name, plan, operation: operation)
            change(name) { guest in
                guest.attachWay = load.way
                guest.modules = load.loaded.adopting(guest.modules)
            }
        } catch {
            try checkGoing(name, operation)
            let remedy = error.remedy.map { "; \($0)" } ?? ""
            return operationLog.step(operation, "not attached from inside: \(error.detail)\(remedy)")
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

    /// What to type in a guest of mode `usbip` whose client isn't run by vusbd.
    /// - Parameter paths: of devices that it holds.
    func tellRecipe(of name: String, _ paths: [String], operation: Int) {
        guard let guest = guestRegistry[name], guest.loadedMode == .usbip, guest.attachWay == nil else { return }
        let definition = guest.definition
        let addresses = attachAddresses(of: definition)
        guard !addresses.isEmpty else {
            return operationLog.step(
                operation,
                "its client: nothing listens where it's known; add \(definition.missingListeners) to usbip: in vusb.yaml"
            )
        }
        for line in AttachRecipe.lines(addresses, isMachine: definition.machine != nil, busIDs: paths) {
            operationLog.step(operation, "its client: " + line)
        }
    }

    /// Where the guest's clients can connect: its own addresses, else the shared ones at which it's known.
    func attachAddresses(of definition: GuestDefinition) -> [AttachAddress] {
        let own = definition.listen.map(\.attachAddress)
        guard own.isEmpty else { return own }
        return sharedListeners.filter { $0.knows(definition.clients) }.map { listener in
            guard listener.tls != nil, case .tcp(let host, let port) = listener.address else {
                return listener.address.attachAddress
            }
            return .tls(host: host, port: port)
        }
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
}

extension USBIPListenerSpec {
    /// Whether one of these may be known there.
    fileprivate func knows(_ clients: [USBIPClient]) -> Bool {
        clients.contains { client in
            switch (address, client) {
            case (.vsock, .machine), (.unix, .user): true
            case (.tcp, .certificate), (.tcp, .fingerprint): tls != nil
            default: false
            }
        }
    }
}

extension GuestDefinition {
    /// Such as `vsock:3240`: what its clients would be known at.
    var missingListeners: String {
        let kinds = clients.map { client in
            switch client {
            case .machine: "vsock:3240"
            case .user: "unix:PATH"
            case .certificate, .fingerprint: "tcp:ADDRESS:PORT with certificates"
            }
        }
        return Set(kinds).sorted().joined(separator: " or ")
    }
}
