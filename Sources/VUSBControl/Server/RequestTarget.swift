// SPDX-License-Identifier: Apache-2.0

/// A request's path and query, decoded once: no name in it has a NUL or isn't UTF-8 (RFC 3986).
struct RequestTarget: Equatable {
    /// Without the leading slash; `/v1/devices/` has an empty last one.
    var path: [String]
    var query: [(name: String, value: String)]

    static func == (left: RequestTarget, right: RequestTarget) -> Bool {
        left.path == right.path && left.query.elementsEqual(right.query) { $0 == $1 }
    }

    init(_ target: String) throws(Problem) {
        let halves = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        path = []
        for segment in (halves.first ?? "").split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
            path.append(try Self.decode(segment, plusIsSpace: false))
        }
        query = []
        guard halves.count == 2 else { return }
        for pair in halves[1].split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = try Self.decode(parts[0], plusIsSpace: true)
            query.append((name, parts.count == 2 ? try Self.decode(parts[1], plusIsSpace: true) : ""))
        }
    }

    /// The query as the route knows it: no other names, none twice.
    func query(allowing names: Set<String>) throws(Problem) -> [String: String] {
        var values: [String: String] = [:]
        for (name, value) in query {
            guard names.contains(name) else {
                let known = names.isEmpty ? "it takes none" : "it takes \(names.sorted().joined(separator: ", "))"
                throw Problem(.malformed, "query parameter '\(name)' isn't one of this path", remedy: known)
            }
            guard values.updateValue(value, forKey: name) == nil else {
                throw Problem(.malformed, "query parameter '\(name)' is there twice")
            }
        }
        return values
    }

    /// Percent-decodes, and refuses what no name has.
    private static func decode(_ text: Substring, plusIsSpace: Bool) throws(Problem) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                bytes.append(try percent(&rest, in: text))
            } else {
                bytes.append(plusIsSpace && byte == UInt8(ascii: "+") ? UInt8(ascii: " ") : byte)
            }
        }
        guard !bytes.contains(0) else { throw Problem(.malformed, "'\(text)' has a NUL in it") }
        guard let decoded = String(validating: bytes, as: UTF8.self) else {
            throw Problem(.malformed, "'\(text)' isn't UTF-8")
        }
        return decoded
    }

    private static func percent(_ rest: inout Substring.UTF8View, in text: Substring) throws(Problem) -> UInt8 {
        guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else {
            throw Problem(.malformed, "'\(text)' has a % without two hexadecimal digits", remedy: "write % as %25")
        }
        return high << 4 | low
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
