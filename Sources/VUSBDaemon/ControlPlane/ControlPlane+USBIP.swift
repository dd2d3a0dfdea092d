// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBIP
internal import VUSBVMM

/// Mode `usbip`: clients of the USB/IP protocol import a guest's devices. USBIP.md of VUSBIP has the protocol.
extension ControlPlane {
    /// Listeners of vusb.yaml, at which clients say who they are.
    func listen(at listeners: [USBIPListenerSpec]) throws(USBError) {
        let clients = usbipClients
        for listener in listeners {
            var tls: USBIPTLS?
            if let files = listener.tls {
                tls = try USBIPTLS(certificates: files.certificate, key: files.key, authority: files.authority)
            }
            let definition = try USBIPListenerDefinition(
                listener.address.endpoint(owner: nil, tls: tls), .resolved { clients.guest(of: $0) })
            _ = try usbip?.serve(definition)
            sharedListeners.append(listener)
            logger.notice("clients of USB/IP can connect", metadata: ["listener": "\(definition.endpoint)"])
        }
    }

    // MARK: - Load

    /// The guest's own listeners.
    func bringUpUSBIP(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) {
        try openListeners(of: name, operation: operation)
        try await bringUpClient(name, plan, operation: operation)
    }

    private func openListeners(of name: String, operation: Int) throws(Problem) {
        guard let definition = guestRegistry[name]?.definition, let usbip else { return }
        for address in definition.listen {
            do {
                let listener = try usbip.serve(
                    USBIPListenerDefinition(
                        address.endpoint(owner: definition.access.uid, tls: nil), .one(name)))
                change(name) { $0.listeners.append(listener) }
            } catch {
                throw Problem(error, while: "load of guest \(name)")
            }
        }
        guard !definition.listen.isEmpty || !sharedListeners.isEmpty else {
            throw Problem(
                .conflict,
                "guest \(name) is known by its clients, and there is no listener at which they could connect",
                remedy: "give it an address of its own (--listen), or vusb.yaml listeners (usbip:)")
        }
        for text in definition.specification.listen ?? [] { operationLog.step(operation, "clients connect to \(text)") }
        if definition.listen.isEmpty { operationLog.step(operation, "its clients are known at the shared listeners") }
    }

    /// Nobody new can connect when it returns.
    func endListeners(of name: String) async {
        let listeners = guestRegistry[name]?.listeners ?? []
        change(name) { $0.listeners = [] }
        for listener in listeners { await listener.end() }
    }

    /// - Throws: where another guest, or all of them, listen there already: only one of the two could be loaded.
    func checkAddresses(of definition: GuestDefinition) throws(Problem) {
        for address in definition.listen {
            let detail = "guest \(definition.name) can't listen at \(address.text): "
            let remedy = "give it another port or address"
            if let other = sharedListeners.first(where: { $0.address.conflicts(with: address) }) {
                throw Problem(
                    .conflict, detail + "vusb.yaml (usbip) has a listener for all guests at \(other.address.text)",
                    remedy: remedy + ", or let it be known there (--client)")
            }
            for other in guestRegistry.sorted where other.definition.name != definition.name {
                guard let taken = other.definition.listen.first(where: address.conflicts) else { continue }
                throw Problem(
                    .conflict, detail + "guest \(other.definition.name) does so at \(taken.text)", remedy: remedy)
            }
        }
    }

    /// - Throws: where another guest is known by one of these already.
    func addClients(of definition: GuestDefinition) throws(Problem) {
        guard let taken = usbipClients.add(definition.clients, of: definition.name) else { return }
        throw Problem(
            .conflict, "guest \(definition.name) can't be known by \(taken.client.text): guest \(taken.guest) is",
            remedy: "give each guest clients of its own")
    }

    // MARK: - News

    func listenToUSBIP() {
        guard let stream = usbip?.events() else { return }
        pumps.append(
            Task {
                for await event in stream { self.handle(event) }
            }
        )
    }

    private func handle(_ event: USBIPEvent) {
        switch event {
        case .imported(let place, let peer):
            tellOfChannel(place.guest, "\(place.path): imported by \(quoted(peer))")
        case .ended(let place, let peer, let end, let unfinished):
            let left = unfinished > 0 ? ", with \(unfinished) transfers that don't end" : ""
            tellOfChannel(place.guest, "\(place.path): no longer imported by \(quoted(peer)): \(end)\(left)")
            sessionEnded(at: place)
        case .refused(let listener, let peer, let reason, let others):
            let more = others > 0 ? " (and \(others) more)" : ""
            emit(.clientRefused, detail: "\(listener): \(peer): \(reason)\(more)")
        }
    }

    /// Nobody works with the device any more: who waits for it gets it, else its guest's next client.
    func sessionEnded(at place: USBIPPlace) {
        guard phase == .running,
            let attachment = deviceRegistry.attachments(of: place.guest).first(where: { $0.path == place.path }),
            case .attached? = deviceRegistry[attachment.record.id]?.holder
        else { return }
        let id = attachment.record.id
        // It becomes a detach where somebody waits for the device.
        let operation = begin(firstReady(for: id) == nil ? .reset : .detach, guest: place.guest, device: id)
        mark([attachment], by: operation)
        operationLog.setCancellable(operation, false)
        _ = run(operation) { (plane, operation) async throws(Problem) in
            if plane.firstReady(for: id) != nil {
                await plane.cut([attachment], operation: operation)
                await plane.persist()
                plane.noteLoss(of: place.guest)
            } else {
                await plane.reset(attachment, operation: operation)
                attachment.usbip?.readmit()
                plane.restore([attachment])
            }
            return nil
        }
    }
}

extension USBIPClient {
    fileprivate var text: String {
        switch self {
        case .machine(let cid): "cid:\(cid)"
        case .user(let uid): "user:\(uid)"
        case .certificate(let name): "certificate:\(name)"
        case .fingerprint(let digits): "sha256:\(digits)"
        }
    }
}

extension Attachment {
    var usbipPlace: USBIPPlace {
        USBIPPlace(
            guest: guest, path: path, busNumber: UInt16(slot.busNumber), deviceNumber: UInt16(slot.deviceNumber))
    }
}
