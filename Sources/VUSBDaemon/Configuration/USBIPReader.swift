// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import Yams

/// A listener of vusb.yaml at which clients of the USB/IP protocol say who they are.
struct USBIPListenerSpec: Sendable, Equatable {
    /// PEM files.
    struct TLS: Sendable, Equatable {
        var certificate: String
        var key: String
        /// Who signs clients' certificates.
        var authority: String
    }

    var address: USBIPAddress
    /// With `tcp`.
    var tls: TLS?
}

/// Reads `usbip` of vusb.yaml: a list of listeners.
struct USBIPReader {
    private static let keys = ["listen", "certificate", "key", "authority"]

    private(set) var faults: [ConfigurationFault] = []

    mutating func read(_ node: Node, line: Int?) -> [USBIPListenerSpec] {
        guard case .sequence(let sequence) = node else {
            faults.append(
                ConfigurationFault(
                    line: line, key: "usbip", message: "must be a list",
                    remedy: "begin each listener with '- listen: ADDRESS'"))
            return []
        }
        return sequence.enumerated().compactMap { index, item in listener(item, "usbip[\(index)]") }
    }

    private mutating func listener(_ node: Node, _ key: String) -> USBIPListenerSpec? {
        var mapping = YAMLMapping(node, path: key)
        mapping.checkKeys(Self.keys)
        let address = address(&mapping)
        let tls = tls(&mapping, address)
        let isWrong = !mapping.faults.isEmpty
        faults += mapping.faults
        guard !isWrong, let address else { return nil }
        return USBIPListenerSpec(address: address, tls: tls)
    }

    private func address(_ mapping: inout YAMLMapping) -> USBIPAddress? {
        guard let text = mapping.string("listen") else {
            if mapping.node("listen") == nil {
                mapping.fault("listen", mapping.line, "is missing", remedy: "one of \(USBIPAddress.form)")
            }
            return nil
        }
        guard let address = USBIPAddress(text) else {
            mapping.fault(
                "listen", mapping.node("listen")?.line, "\(quoted(text)) is no address",
                remedy: "one of \(USBIPAddress.form)")
            return nil
        }
        return address
    }

    private func tls(_ mapping: inout YAMLMapping, _ address: USBIPAddress?) -> USBIPListenerSpec.TLS? {
        let files = ["certificate", "key", "authority"].map { mapping.path($0) }
        guard case .tcp? = address else {
            if address != nil, let name = ["certificate", "key", "authority"].first(where: { mapping.node($0) != nil })
            {
                mapping.fault(
                    name, mapping.node(name)?.line, "is for tcp alone",
                    remedy: "leave it out: the kernel says who connects")
            }
            return nil
        }
        guard let certificate = files[0], let key = files[1], let authority = files[2] else {
            mapping.fault(
                "certificate", mapping.line, "clients on TCP say who they are by certificates, and there are none here",
                remedy: "give certificate, key and authority; or give one guest an address of its own: listen")
            return nil
        }
        return USBIPListenerSpec.TLS(certificate: certificate, key: key, authority: authority)
    }
}
