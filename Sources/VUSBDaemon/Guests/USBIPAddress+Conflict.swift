// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Whether two listeners can be at once, by what their addresses mean.
extension USBIPAddress {
    /// Whether one is in the other's way, however they're written.
    func conflicts(with other: USBIPAddress) -> Bool {
        switch (self, other) {
        case (.tcp(let host, let port), .tcp(let otherHost, let otherPort)):
            port == otherPort && HostAddress(host).overlaps(HostAddress(otherHost))
        case (.unix(let path), .unix(let otherPath)): Self.components(path) == Self.components(otherPath)
        case (.vsock(let port), .vsock(let otherPort)): port == otherPort
        default: false
        }
    }

    /// Whether others than users of this host may connect.
    var isOpen: Bool {
        switch self {
        case .tcp(let host, _): !HostAddress(host).isLoopback
        // All virtual machines of this host.
        case .vsock: true
        case .unix: false
        }
    }

    private static func components(_ path: String) -> [Substring] { path.split(separator: "/").filter { $0 != "." } }
}

/// A numeric address of this host.
struct HostAddress {
    /// Of IPv6, or of IPv4 in its notation; what isn't an address is none.
    private let bytes: [UInt8]?
    private let text: String

    private static let mapped: [UInt8] = Array(repeating: 0, count: 10) + [0xff, 0xff]
    private static let any6 = [UInt8](repeating: 0, count: 16)
    private static let any4 = mapped + [0, 0, 0, 0]
    private static let loopback6: [UInt8] = Array(repeating: 0, count: 15) + [1]

    init(_ text: String) {
        self.text = text
        var four = [UInt8](repeating: 0, count: 4)
        var six = [UInt8](repeating: 0, count: 16)
        // SAFETY: each has as many bytes as its family writes.
        if unsafe inet_pton(AF_INET, text, &four) == 1 {
            bytes = Self.mapped + four
        } else if unsafe inet_pton(AF_INET6, text, &six) == 1 {
            bytes = six
        } else {
            bytes = nil
        }
    }

    var isNumeric: Bool { bytes != nil }

    private var isIPv4: Bool { bytes?.starts(with: Self.mapped) == true }

    var isLoopback: Bool { bytes == Self.loopback6 || (isIPv4 && bytes?[12] == 127) }

    /// A listener at `::` takes IPv4 as well, as Linux has it.
    func overlaps(_ other: HostAddress) -> Bool {
        guard let bytes, let others = other.bytes else { return text == other.text }
        if bytes == others || bytes == Self.any6 || others == Self.any6 { return true }
        return (bytes == Self.any4 && other.isIPv4) || (others == Self.any4 && isIPv4)
    }
}
