// SPDX-License-Identifier: Apache-2.0

/// Keys of a keyboard, by their usage IDs (HID Usage Tables 1.5, page 07h); modifiers are E0h to E7h.
struct KeySet: Sendable, Equatable {
    private var words = InlineArray<4, UInt64>(repeating: 0)

    init() {}

    init(_ key: UInt8) { insert(key) }

    /// What a boot keyboard report says is pressed (HID 1.11, appendix B.1): a byte of modifiers, a reserved one, six
    /// keys. Nil where the keyboard says that it doesn't know (too many keys at once), or the report is shorter.
    init?(bootReport: [UInt8]) {
        guard bootReport.count >= KeyboardChord.bootReportLength else { return nil }
        words[3] = UInt64(bootReport[0]) << 32
        for key in bootReport[2..<KeyboardChord.bootReportLength] {
            // ErrorRollOver, POSTFail, ErrorUndefined.
            if (1...3).contains(key) { return nil }
            if key > 0 { insert(key) }
        }
    }

    var isEmpty: Bool { words.indices.allSatisfy { words[$0] == 0 } }
    var count: Int { words.indices.reduce(0) { $0 + words[$1].nonzeroBitCount } }

    /// As byte 0 of a boot report.
    var modifiers: UInt8 { UInt8(truncatingIfNeeded: words[3] >> 32) }

    func contains(_ key: UInt8) -> Bool { words[Int(key >> 6)] & 1 << UInt64(key & 63) != 0 }

    mutating func insert(_ key: UInt8) { words[Int(key >> 6)] |= 1 << UInt64(key & 63) }

    func subtracting(_ other: KeySet) -> KeySet { combined(other) { $0 & ~$1 } }
    func intersection(_ other: KeySet) -> KeySet { combined(other) { $0 & $1 } }
    func union(_ other: KeySet) -> KeySet { combined(other) { $0 | $1 } }
    func isSubset(of other: KeySet) -> Bool { subtracting(other).isEmpty }

    /// Without modifiers.
    var plainKeys: KeySet {
        var keys = self
        keys.words[3] &= ~(0xff << 32)
        return keys
    }

    private func combined(_ other: KeySet, _ operation: (UInt64, UInt64) -> UInt64) -> KeySet {
        var result = KeySet()
        for index in words.indices { result.words[index] = operation(words[index], other.words[index]) }
        return result
    }

    static func == (one: KeySet, other: KeySet) -> Bool {
        one.words.indices.allSatisfy { one.words[$0] == other.words[$0] }
    }
}
