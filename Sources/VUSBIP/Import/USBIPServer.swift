// SPDX-License-Identifier: Apache-2.0

/// A USB/IP server: where devices are imported from.
package enum USBIPServer: Hashable, Sendable {
    /// - Parameter host: a name or a numeric address.
    case tcp(host: String, port: UInt16 = USBIPListenerDefinition.defaultPort)
    case unix(path: String)
    case vsock(cid: UInt32, port: UInt32 = UInt32(USBIPListenerDefinition.defaultPort))

    private static let unixPrefix = "unix:"
    private static let vsockPrefix = "vsock:"
    /// Of a name in the DNS.
    private static let longestHost = 253

    /// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`, `unix:/PATH`, `vsock:CID`, `vsock:CID:PORT`. Nil for all else.
    package init?(_ text: String) {
        if text.hasPrefix(Self.unixPrefix) {
            let path = String(text.dropFirst(Self.unixPrefix.count))
            guard Self.isPath(path) else { return nil }
            self = .unix(path: path)
        } else if text.hasPrefix(Self.vsockPrefix) {
            self.init(vsock: text.dropFirst(Self.vsockPrefix.count))
        } else {
            self.init(tcp: text[...])
        }
    }

    private init?(vsock text: Substring) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= 2, let cid = parts.first.flatMap({ Self.number($0, UInt32.self) }) else { return nil }
        guard parts.count == 2 else {
            self = .vsock(cid: cid)
            return
        }
        guard let port = Self.number(parts[1], UInt32.self) else { return nil }
        self = .vsock(cid: cid, port: port)
    }

    private init?(tcp text: Substring) {
        var host = text
        var port: Substring?
        if text.first == "[" {
            guard let end = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<end]
            let rest = text[text.index(after: end)...]
            guard host.contains(":"), rest.isEmpty || rest.first == ":" else { return nil }
            if !rest.isEmpty { port = rest.dropFirst() }
        } else if let colon = text.firstIndex(of: ":"), colon == text.lastIndex(of: ":") {
            host = text[..<colon]
            port = text[text.index(after: colon)...]
        }
        guard Self.isHost(host) else { return nil }
        guard let port else {
            self = .tcp(host: String(host))
            return
        }
        guard let number = Self.number(port, UInt16.self), number > 0 else { return nil }
        self = .tcp(host: String(host), port: number)
    }

    /// Decimal digits and nothing else: a sign would be taken, too.
    private static func number<Number: FixedWidthInteger>(_ text: Substring, _: Number.Type) -> Number? {
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        return Number(text)
    }

    private static func isHost(_ text: Substring) -> Bool {
        guard (1...longestHost).contains(text.utf8.count), text.first != "-" else { return false }
        // A zone follows an address of IPv6 behind a %.
        return text.utf8.allSatisfy { $0.isASCIILetterOrDigit || ".-_:%".utf8.contains($0) }
    }

    private static func isPath(_ path: String) -> Bool {
        path.hasPrefix("/") && path.utf8.count <= USBIPSocket.longestPath
            && path.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f }
    }
}

extension USBIPServer: CustomStringConvertible {
    /// As `init` reads it.
    package var description: String {
        let usual = USBIPListenerDefinition.defaultPort
        switch self {
        case .tcp(let host, let port):
            let name = host.contains(":") ? "[\(host)]" : host
            return port == usual ? name : "\(name):\(port)"
        case .unix(let path): return "\(Self.unixPrefix)\(path)"
        case .vsock(let cid, let port):
            return port == UInt32(usual) ? "\(Self.vsockPrefix)\(cid)" : "\(Self.vsockPrefix)\(cid):\(port)"
        }
    }
}

extension UInt8 {
    var isASCIILetterOrDigit: Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self)
            || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20)
    }
}
