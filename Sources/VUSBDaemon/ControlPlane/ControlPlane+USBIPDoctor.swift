// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBIP
internal import VUSBVMM

/// What `doctor` says of mode `usbip`: where clients connect, and what attaches inside guests.
extension ControlPlane {
    func usbipFindings() -> [Finding] {
        guard usbip != nil else { return [] }
        let shared = sharedListeners.map { listener in
            Finding(
                check: "usbip \(listener.address.text)", level: .ok,
                summary: "open to all guests' clients" + (listener.tls == nil ? "" : " with a certificate"))
        }
        return shared + guestRegistry.sorted.flatMap(listenerFindings)
    }

    private func listenerFindings(_ guest: GuestEntry) -> [Finding] {
        let definition = guest.definition
        let own = definition.listen.map { finding($0, of: guest) }
        guard own.isEmpty, !definition.clients.isEmpty, attachAddresses(of: definition).isEmpty else { return own }
        return [
            Finding(
                check: "guest \(definition.name)", level: .warning,
                summary: "nothing listens where its clients are known",
                remedy: "add \(definition.missingListeners) to usbip: in vusb.yaml, or give it an address of its own "
                    + "(--listen)")
        ]
    }

    /// While it's loaded, its own listener is what would be in the way.
    private func finding(_ address: USBIPAddress, of guest: GuestEntry) -> Finding {
        let (name, check) = (guest.definition.name, "usbip \(address.text)")
        let isOpen = !guest.listeners.isEmpty
        let endpoint = address.endpoint(owner: guest.definition.access.uid, tls: nil)
        if !isOpen, guest.state.operation == nil, let obstacle = usbip?.obstacle(at: endpoint) {
            return Finding(
                check: check, level: .warning,
                summary: "guest \(name) can't be loaded in mode usbip: \(obstacle.message)", remedy: obstacle.remedy)
        }
        guard !address.isOpen else { return openFinding(check, address, name) }
        return Finding(
            check: check, level: .ok,
            summary: isOpen ? "open to clients of guest \(name)" : "free for guest \(name), which isn't loaded")
    }

    private func openFinding(_ check: String, _ address: USBIPAddress, _ name: String) -> Finding {
        if case .vsock = address {
            return Finding(
                check: check, level: .warning, summary: "any virtual machine of this host is guest \(name) there",
                remedy: "use a shared listener (usbip: in vusb.yaml) and --client cid:NUMBER, where there are others")
        }
        return Finding(
            check: check, level: .warning,
            summary: "whoever reaches it is guest \(name), and nothing is encrypted",
            remedy:
                "let only a network that you trust reach it; or use a listener with certificates (usbip: in vusb.yaml) "
                + "and --client certificate:NAME")
    }

    /// The program that is copied to guests without a client of their own.
    func helperFinding() async -> Finding {
        let check = "attach-helper"
        let helper = tools.helper
        let look = await Task.detached { () -> Result<AttachHelper.Look, USBError> in
            Result { () throws(USBError) in try helper.look() }
        }.value
        let isWanted = guestRegistry.sorted.contains { guest in
            guest.definition.machine?.agent != nil && guest.definition.possibleModes.contains(.usbip)
        }
        switch look {
        case .failure(let error) where error.code == .notFound && !isWanted:
            return Finding(
                check: check, level: .ok,
                summary: "there is no vusb-attach; machines of mode usbip with an agent and without usbip would need it"
            )
        case .failure(let error):
            return Finding(
                check: check, level: .warning,
                summary: "guests without usbip can't attach from inside: \(error.message)",
                remedy: error.remedy)
        case .success(let found):
            return Self.finding(found, check)
        }
    }

    private static func finding(_ found: AttachHelper.Look, _ check: String) -> Finding {
        guard found.isStatic else {
            return Finding(
                check: check, level: .warning,
                summary: "\(found.path) isn't static: it runs only in guests that have its libraries",
                remedy: "build it by make -C kmod-shim attach")
        }
        guard found.isExecutable else {
            return Finding(
                check: check, level: .warning,
                summary: "\(found.path) isn't executable: guests get it so, people on this host can't run it",
                remedy: "chmod 755 \(found.path)")
        }
        return Finding(check: check, level: .ok, summary: "\(found.path), static")
    }
}
