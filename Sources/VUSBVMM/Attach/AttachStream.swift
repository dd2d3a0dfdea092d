// SPDX-License-Identifier: Apache-2.0

/// Where vusbd listens for a guest's clients of USB/IP, as far as a client inside can get there. Attach.md has what each
/// is from inside.
package enum AttachAddress: Sendable, Hashable {
    case vsock(port: UInt32)
    /// - Parameter host: a numeric address of this host.
    case tcp(host: String, port: UInt16)
    /// As `tcp`, with certificates: no client of Linux's speaks that by itself.
    case tls(host: String, port: UInt16)
    /// Of this host; the guest's machine connects a serial port to it.
    case unix(path: String)
}

/// A stream from inside a guest to vusbd, as `vusb-attach` takes it.
package enum AttachStream: Sendable, Hashable, CustomStringConvertible {
    case vsock(port: UInt32)
    case tcp(host: String, port: UInt16)
    /// One device at a time.
    case serial(path: String)
    /// Of this host, for a client here.
    case unix(path: String)

    /// As registered for USB/IP.
    private static let defaultPort: UInt16 = 3240
    /// The host, as every machine knows it by vsock (`VMADDR_CID_HOST`).
    private static let hostCID = 2

    package var description: String {
        switch self {
        case .vsock(let port): "vsock:\(Self.hostCID):\(port)"
        case .tcp(let host, let port): host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
        case .serial(let path): "serial:\(path)"
        case .unix(let path): "unix:\(path)"
        }
    }

    var isSerial: Bool {
        if case .serial = self { true } else { false }
    }

    /// What a person types to attach a device; `vhci-hcd` is loaded then.
    func command(_ busID: String) -> String {
        switch self {
        case .vsock, .unix: "vusb-attach \(self) \(busID)"
        case .serial: "vusb-attach -d \(self) \(busID)"
        case .tcp: (["usbip"] + usbipArguments(["attach"]) + ["-b", busID]).joined(separator: " ")
        }
    }

    /// Of usbip(8), which speaks TCP alone.
    func usbipArguments(_ command: [String]) -> [String] {
        guard case .tcp(let host, let port) = self else { return [] }
        return (port == Self.defaultPort ? [] : ["--tcp-port", "\(port)"]) + command + ["-r", host]
    }
}
