// SPDX-License-Identifier: Apache-2.0

/// Servers of the USB/IP protocol, and what they lend. vusb.yaml is checked by them as well.
extension Rules {
    package static let mostImports = 64
    /// What the protocol has room for, without its NUL.
    static let longestBusID = 31
    private static let longestImportName = 60
    /// Of a host's name (RFC 1035).
    private static let longestHost = 253
    /// Of an interface's name, with which an address of IPv6 may end (RFC 4007).
    private static let longestZone = 15

    /// For messages.
    package static let serverForm = "HOST, HOST:PORT, [IPV6]:PORT, unix:PATH, vsock:CID or vsock:CID:PORT"

    /// `^(HOST(:PORT)?|\[IPV6\](:PORT)?|unix:/PATH|vsock:CID(:PORT)?)$`. Port 0 is none.
    package static func isServer(_ text: String) -> Bool {
        if text.hasPrefix("unix:/") { return isSocketPath(String(text.dropFirst(5))) }
        if text.hasPrefix("[") { return isBracketed(text) }
        let fields = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        switch fields.count {
        case 1: return isHost(fields[0])
        case 2 where fields[0] == "vsock": return isShortNumber(fields[1])
        case 2 where fields[0] == "unix": return false
        case 2: return isHost(fields[0]) && isPort(fields[1])
        case 3: return fields[0] == "vsock" && isShortNumber(fields[1]) && isShortNumber(fields[2])
        default: return false
        }
    }

    /// `^[A-Za-z0-9._:-]{1,31}$`
    package static func isBusID(_ text: String) -> Bool {
        (1...longestBusID).contains(text.utf8.count)
            && text.utf8.allSatisfy { isAlphanumeric($0) || "._:-".utf8.contains($0) }
    }

    /// Behind `ip-`: `^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$`
    package static func isImportName(_ text: String) -> Bool {
        text.utf8.count <= longestImportName && isHost(text)
    }

    static func server(_ text: String, _ field: String = "server") throws(Problem) -> String {
        guard isServer(text) else {
            throw Problem(
                .malformed, "\(field) '\(shortened(text))' isn't the address of a server", remedy: "write \(serverForm)"
            )
        }
        return text
    }

    private static func isHost(_ text: String) -> Bool {
        (1...longestHost).contains(text.utf8.count) && text.utf8.first.map { isAlphanumeric($0) } == true
            && text.utf8.allSatisfy { isAlphanumeric($0) || "._-".utf8.contains($0) }
    }

    private static func isBracketed(_ text: String) -> Bool {
        guard let end = text.firstIndex(of: "]"), isIPv6(text[..<end].dropFirst()) else { return false }
        let rest = text[text.index(after: end)...]
        return rest.isEmpty || (rest.first == ":" && isPort(String(rest.dropFirst())))
    }

    /// Nearly: the C library reads it. Behind a % is an interface's name.
    private static func isIPv6(_ text: Substring) -> Bool {
        let halves = text.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        let address = halves[0].utf8
        guard (2...45).contains(address.count), address.prefix(5).contains(UInt8(ascii: ":")),
            halves[0].allSatisfy({ $0.isASCII && ($0.isHexDigit || $0 == ":" || $0 == ".") })
        else { return false }
        guard halves.count == 2 else { return true }
        return (1...longestZone).contains(halves[1].utf8.count)
            && halves[1].utf8.allSatisfy { isAlphanumeric($0) || "._-".utf8.contains($0) }
    }

    private static func isPort(_ text: String) -> Bool { integer(text, as: UInt16.self).map { $0 > 0 } == true }
}

extension ImportRequest: RequestMessage {
    static let fields = ["server", "busid", "name", "keepTrying"]

    func check() throws(Problem) {
        _ = try Rules.server(server, "field 'server':")
        guard Rules.isBusID(busid) else {
            throw Problem(
                .malformed, "field 'busid' is '\(Rules.shortened(busid))', which is none",
                remedy: "give what the server calls the device, such as 1-2")
        }
        if let name, !Rules.isImportName(name) {
            throw Problem(
                .malformed, "field 'name' is '\(Rules.shortened(name))', which is none",
                remedy: "use 1 to 60 letters, digits and ._-, a letter or digit first")
        }
    }
}
