// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBIP

/// Where clients of the USB/IP protocol connect: `tcp:3240`, `tcp:ADDRESS:PORT`, `unix:PATH` or `vsock:PORT`.
enum USBIPAddress: Sendable, Equatable {
    case tcp(host: String, port: UInt16)
    case unix(path: String)
    case vsock(port: UInt32)

    static let form = "tcp:PORT, which is on 127.0.0.1, tcp:ADDRESS:PORT, unix:PATH or vsock:PORT"

    /// Nil for anything else.
    init?(_ text: String) {
        guard let (kind, rest) = Rules.usbipAddress(text) else { return nil }
        switch kind {
        case .unix: self = .unix(path: rest)
        case .vsock:
            guard let port = UInt32(rest) else { return nil }
            self = .vsock(port: port)
        case .tcp:
            guard let (host, port) = Rules.hostAndPort(rest), HostAddress(host).isNumeric else { return nil }
            self = .tcp(host: host, port: port)
        }
    }

    /// As `init` reads it.
    var text: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        case .vsock(let port): "vsock:\(port)"
        }
    }

    func endpoint(owner: UInt32?, tls: USBIPTLS?) -> USBIPListenerDefinition.Endpoint {
        switch self {
        case .tcp(let host, let port): .tcp(host: host, port: port, tls: tls)
        case .unix(let path): .unix(path: path, mode: owner == nil ? 0o666 : 0o600, owner: owner)
        case .vsock(let port): .vsock(port: port)
        }
    }
}
