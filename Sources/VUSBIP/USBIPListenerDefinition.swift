// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// Where peers connect, and which guest they are.
package struct USBIPListenerDefinition: Sendable {
    package enum Endpoint: Sendable {
        /// - Parameters:
        ///   - host: a numeric address.
        ///   - port: 0 for any.
        case tcp(host: String = "127.0.0.1", port: UInt16 = defaultPort, tls: USBIPTLS? = nil)
        /// - Parameters:
        ///   - mode: of the socket's file.
        ///   - owner: of the file; nil for this process's user.
        case unix(path: String, mode: UInt32 = 0o600, owner: UInt32? = nil)
        case vsock(port: UInt32 = UInt32(defaultPort))

        /// Nil where bytes are sent as they are.
        var tls: USBIPTLS? {
            if case .tcp(_, _, let tls) = self { tls } else { nil }
        }
    }

    package enum Guests: Sendable {
        /// All who connect are this one.
        case one(String)
        /// Nil for a peer who is none.
        case resolved(@Sendable (USBIPIdentity) -> String?)
    }

    /// As registered for USB/IP.
    package static let defaultPort: UInt16 = 3240

    package var endpoint: Endpoint
    package var guests: Guests

    /// - Throws: `invalid` for a TCP listener that can't tell who connects.
    package init(_ endpoint: Endpoint, _ guests: Guests) throws(USBError) {
        self.endpoint = endpoint
        self.guests = guests
        if case .tcp(_, _, nil) = endpoint, case .resolved = guests {
            throw USBError(
                .invalid, "a USB/IP listener on TCP can't tell one guest from another",
                remedy: "give it a guest, or certificates for TLS")
        }
    }

    func guest(_ identity: USBIPIdentity) -> String? {
        switch guests {
        case .one(let guest): guest
        case .resolved(let resolve): resolve(identity)
        }
    }
}

extension USBIPListenerDefinition.Endpoint {
    /// Whether a peer may be silent before it asks for something: QEMU connects a serial port when it starts.
    var mayWait: Bool {
        if case .unix = self { true } else { false }
    }
}

extension USBIPListenerDefinition.Endpoint: CustomStringConvertible {
    package var description: String {
        switch self {
        case .tcp(let host, let port, let tls): "\(tls == nil ? "tcp" : "tls") \(host) port \(port)"
        case .unix(let path, _, _): "unix \(path)"
        case .vsock(let port): "vsock port \(port)"
        }
    }
}
