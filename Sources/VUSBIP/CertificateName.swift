// SPDX-License-Identifier: Apache-2.0

/// Finds the common name of an X.509 certificate's subject (RFC 5280, 4.1). TLS has verified the certificate before, but
/// its bytes are checked as anybody's.
enum CertificateName {
    /// The most significant one, which is the last; nil where there is none, or one that isn't printable ASCII of 1 to 64
    /// characters.
    static func commonName(_ certificate: [UInt8]) -> String? {
        var outer = DERReader(certificate[...])
        guard var whole = outer.next(DERReader.sequence), var signed = whole.next(DERReader.sequence) else {
            return nil
        }
        // The version is there but in certificates of version 1.
        _ = signed.next(DERReader.version)
        // Serial number, signature algorithm, issuer, validity.
        guard signed.next(DERReader.integer) != nil, signed.next(DERReader.sequence) != nil,
            signed.next(DERReader.sequence) != nil, signed.next(DERReader.sequence) != nil,
            var subject = signed.next(DERReader.sequence)
        else { return nil }
        var found: [UInt8]?
        while var names = subject.next(DERReader.set) {
            while var name = names.next(DERReader.sequence) {
                guard let kind = name.next(DERReader.object), Array(kind.bytes) == [0x55, 0x04, 0x03] else { continue }
                found = name.text()
            }
        }
        guard let found, (1...64).contains(found.count), found.allSatisfy({ (0x20...0x7e).contains($0) }) else {
            return nil
        }
        return String(decoding: found, as: UTF8.self)
    }
}

/// Elements of DER (X.690), one behind the other.
private struct DERReader {
    static let integer: UInt8 = 0x02
    static let object: UInt8 = 0x06
    static let sequence: UInt8 = 0x30
    static let set: UInt8 = 0x31
    static let version: UInt8 = 0xa0
    /// UTF8String, PrintableString, T61String, IA5String.
    private static let texts: [UInt8] = [0x0c, 0x13, 0x14, 0x16]

    private(set) var bytes: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    /// What is in the next element, if it has this tag; else nothing is taken.
    mutating func next(_ tag: UInt8) -> DERReader? {
        guard bytes.first == tag else { return nil }
        var rest = bytes.dropFirst()
        guard let count = Self.length(&rest), count <= rest.count else { return nil }
        bytes = rest.dropFirst(count)
        return DERReader(rest.prefix(count))
    }

    mutating func text() -> [UInt8]? {
        for tag in Self.texts {
            if let found = next(tag) { return Array(found.bytes) }
        }
        return nil
    }

    private static func length(_ rest: inout ArraySlice<UInt8>) -> Int? {
        guard let first = rest.popFirst() else { return nil }
        guard first & 0x80 != 0 else { return Int(first) }
        let count = Int(first & 0x7f)
        guard (1...4).contains(count), rest.count >= count else { return nil }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count).reduce(0) { $0 << 8 | Int($1) }
    }
}
