// SPDX-License-Identifier: Apache-2.0

/// Finds where bytes stop being JSON (RFC 8259), which Foundation's decoder doesn't say. Only for messages.
struct JSONScan {
    private static let depthLimit = 64

    private let bytes: [UInt8]
    private var position = 0

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// The position of the first byte that is wrong or missing; nil where all is one JSON value.
    static func firstError(in bytes: [UInt8]) -> Int? {
        var scan = JSONScan(bytes)
        guard scan.value(depth: 0) else { return scan.position }
        scan.skipBlanks()
        return scan.position == bytes.count ? nil : scan.position
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipBlanks() {
        while let byte = next, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { position += 1 }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard next == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func value(depth: Int) -> Bool {
        guard depth < Self.depthLimit else { return false }
        skipBlanks()
        switch next {
        case UInt8(ascii: "{"): return list(closedBy: "}", depth: depth, isObject: true)
        case UInt8(ascii: "["): return list(closedBy: "]", depth: depth, isObject: false)
        case UInt8(ascii: "\""): return string()
        case UInt8(ascii: "t"): return word("true")
        case UInt8(ascii: "f"): return word("false")
        case UInt8(ascii: "n"): return word("null")
        default: return number()
        }
    }

    private mutating func list(closedBy end: Unicode.Scalar, depth: Int, isObject: Bool) -> Bool {
        position += 1
        skipBlanks()
        if take(end) { return true }
        while true {
            if isObject { guard key() else { return false } }
            guard value(depth: depth + 1) else { return false }
            skipBlanks()
            if take(end) { return true }
            guard take(",") else { return false }
        }
    }

    private mutating func key() -> Bool {
        skipBlanks()
        guard string() else { return false }
        skipBlanks()
        return take(":")
    }

    private mutating func string() -> Bool {
        guard take("\"") else { return false }
        while let byte = next {
            guard byte >= 0x20 else { return false }
            position += 1
            if byte == UInt8(ascii: "\"") { return true }
            guard byte != UInt8(ascii: "\\") || next != nil else { return false }
            if byte == UInt8(ascii: "\\") { position += 1 }
        }
        return false
    }

    private mutating func word(_ text: String) -> Bool {
        for byte in text.utf8 {
            guard next == byte else { return false }
            position += 1
        }
        return true
    }

    private mutating func number() -> Bool {
        let start = position
        while let byte = next, "+-.0123456789Ee".utf8.contains(byte) { position += 1 }
        return position > start
    }
}
