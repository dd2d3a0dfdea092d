// SPDX-License-Identifier: Apache-2.0

/// Where clients of the USB/IP protocol connect, and how they are known.
extension Rules {
    package enum AddressKind: String, CaseIterable, Sendable {
        case tcp, unix, vsock
    }

    package enum ClientKind: String, CaseIterable, Sendable {
        case cid, user, certificate, sha256
    }

    /// That a guest may have, of each.
    package static let mostAddresses = 16

    /// `^(tcp:(([0-9A-Fa-f.]{1,45}|\[[0-9A-Fa-f:.]{1,45}\]):)?PORT|unix:/PATH|vsock:PORT)$`: the kind, and what follows.
    package static func usbipAddress(_ text: String) -> (kind: AddressKind, rest: String)? {
        guard let (word, rest) = parts(text), let kind = AddressKind(rawValue: word) else { return nil }
        let fits =
            switch kind {
            case .tcp: hostAndPort(rest) != nil
            case .unix: isSocketPath(rest)
            case .vsock: isShortNumber(rest)
            }
        return fits ? (kind, rest) : nil
    }

    /// `PORT`, on this host's loopback, `IPV4:PORT` or `[IPV6]:PORT`. Port 0 is none.
    package static func hostAndPort(_ text: String) -> (host: String, port: UInt16)? {
        let digits = text.utf8.reversed().prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }.count
        guard let port: UInt16 = integer(String(text.suffix(digits))), port > 0 else { return nil }
        let before = text.dropLast(digits)
        guard !before.isEmpty else { return ("127.0.0.1", port) }
        guard before.last == ":" else { return nil }
        let host = before.dropLast()
        if host.first == "[", host.last == "]" {
            return isNumeric(host.dropFirst().dropLast(), ":.") ? (String(host.dropFirst().dropLast()), port) : nil
        }
        return isNumeric(host, ".") && !host.utf8.contains(UInt8(ascii: ":")) ? (String(host), port) : nil
    }

    /// `cid:NUMBER`, `user:ACCOUNT`, `certificate:COMMON-NAME` or `sha256:FINGERPRINT`: the kind, and what follows.
    package static func usbipClient(_ text: String) -> (kind: ClientKind, rest: String)? {
        guard let (word, rest) = parts(text), let kind = ClientKind(rawValue: word) else { return nil }
        let fits =
            switch kind {
            case .cid: isShortNumber(rest)
            case .user: (try? account(rest, "user")) != nil
            case .certificate: (1...64).contains(rest.utf8.count) && rest.utf8.allSatisfy { (0x20...0x7e).contains($0) }
            case .sha256: rest.utf8.count == 64 && rest.utf8.allSatisfy(isLowerHexadecimal)
            }
        return fits ? (kind, rest) : nil
    }

    static func usbip(_ listen: [String]?, _ clients: [String]?) throws(Problem) {
        for (field, texts) in [("listen", listen ?? []), ("clients", clients ?? [])] where texts.count > mostAddresses {
            throw Problem(.malformed, "field '\(field)' has more than \(mostAddresses)")
        }
        for text in listen ?? [] where usbipAddress(text) == nil {
            throw Problem(
                .malformed, "field 'listen': '\(shortened(text))' is no address",
                remedy: "write tcp:PORT, tcp:ADDRESS:PORT, unix:PATH or vsock:PORT")
        }
        for text in clients ?? [] where usbipClient(text) == nil {
            throw Problem(
                .malformed, "field 'clients': '\(shortened(text))' is no client",
                remedy: "write cid:NUMBER, user:NAME, certificate:COMMON-NAME or sha256:FINGERPRINT")
        }
    }

    private static func parts(_ text: String) -> (String, String)? {
        guard let colon = text.firstIndex(of: ":"), colon != text.startIndex else { return nil }
        return (String(text[..<colon]), String(text[text.index(after: colon)...]))
    }

    /// Of nine digits at most: what comes after that are the kernel's own.
    static func isShortNumber(_ text: String) -> Bool {
        text.utf8.count <= 9 && integer(text, as: UInt32.self) != nil
    }

    private static func isNumeric(_ host: Substring, _ marks: String) -> Bool {
        (1...45).contains(host.utf8.count)
            && host.allSatisfy { $0.isASCII && $0.isHexDigit || marks.contains($0) }
    }

    private static func isLowerHexadecimal(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}
