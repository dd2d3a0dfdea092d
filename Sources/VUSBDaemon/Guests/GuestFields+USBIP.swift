// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// The fields that say how clients of the USB/IP protocol find the guest.
extension GuestFields {
    func listen(_ texts: [String]) throws(Problem) -> [USBIPAddress] {
        try checkCount("listen", texts)
        var addresses: [USBIPAddress] = []
        for text in texts {
            guard let address = USBIPAddress(text) else { throw malformed("listen", text, USBIPAddress.form) }
            guard !addresses.contains(address) else { continue }
            guard !addresses.contains(where: address.conflicts) else {
                throw Problem(
                    .malformed, "guest \(guest) can't listen at \(quoted(text)), which is in another of its addresses",
                    remedy: "leave one of them out")
            }
            addresses.append(address)
        }
        return addresses
    }

    func clients(_ texts: [String]) throws(Problem) -> [USBIPClient] {
        try checkCount("clients", texts)
        return try texts.map { (text) throws(Problem) in
            guard let client = USBIPClient(text) else { throw unknown(client: text) }
            return client
        }
    }

    private func unknown(client text: String) -> Problem {
        guard let (kind, name) = Rules.usbipClient(text), kind == .user else {
            return malformed("clients", text, USBIPClient.form)
        }
        return Problem(
            .malformed, "guest \(guest) can't be known as \(quoted(text)): this host has no user \(quoted(name))",
            remedy: "make the user first (useradd), or give a number, such as user:1000")
    }

    /// What doesn't go with mode `usbip`, or that needs and isn't there.
    func withUSBIP(_ guest: GuestSpec) -> (field: String, problem: Problem)? {
        let fields = [("listen", guest.listen ?? []), ("clients", guest.clients ?? [])].filter { !$0.1.isEmpty }
        guard let first = fields.first else {
            guard guest.mode == "usbip" else { return nil }
            return (
                "mode",
                Problem(
                    .malformed, "guest \(self.guest) has mode usbip, and nothing says how its clients find it",
                    remedy: "give it an address of its own (listen, such as tcp:3240), or say who it is at the shared "
                        + "listeners (clients, such as cid:3)")
            )
        }
        guard let mode = guest.mode, !["usbip", "auto"].contains(mode) else { return nil }
        return (
            first.0,
            Problem(
                .malformed, "guest \(self.guest) has \(first.0), which mode \(mode) doesn't use",
                remedy: "leave it out, or choose mode usbip")
        )
    }

    private func checkCount(_ field: String, _ texts: [String]) throws(Problem) {
        guard texts.count > Rules.mostAddresses else { return }
        throw Problem(
            .malformed, "guest \(guest) has \(texts.count) of \(field)", remedy: "give at most \(Rules.mostAddresses)")
    }
}
