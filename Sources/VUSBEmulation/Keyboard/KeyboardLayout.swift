// SPDX-License-Identifier: Apache-2.0

/// Which key makes which character on a US keyboard (HID Usage Tables, keyboard page 7).
package enum KeyboardLayout {
    /// A key's usage, with or without shift.
    package struct Stroke: Sendable, Equatable {
        package let usage: UInt8
        package let isShifted: Bool
    }

    /// Nil for a character that has no key.
    package static func stroke(for character: Character) -> Stroke? {
        // A line break of Windows is one character of two scalars.
        if character == "\r\n" { return Stroke(usage: 0x28, isShifted: false) }
        guard let byte = character.asciiValue else { return nil }
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"):
            return Stroke(usage: byte - UInt8(ascii: "a") + 0x04, isShifted: false)
        case UInt8(ascii: "A")...UInt8(ascii: "Z"):
            return Stroke(usage: byte - UInt8(ascii: "A") + 0x04, isShifted: true)
        case UInt8(ascii: "1")...UInt8(ascii: "9"):
            return Stroke(usage: byte - UInt8(ascii: "1") + 0x1e, isShifted: false)
        default: return others[byte]
        }
    }

    private static let others: [UInt8: Stroke] = {
        // The characters of a key without and with shift, from the usage that stands before them.
        let rows: [(UInt8, String, String)] = [
            (0x1e, "", "!@#$%^&*("), (0x27, "0", ")"), (0x28, "\n", ""), (0x2a, "\u{8}", ""), (0x29, "\u{1b}", ""),
            (0x2b, "\t", ""), (0x2c, " ", ""), (0x2d, "-=[]\\", "_+{}|"), (0x33, ";'`,./", ":\"~<>?"),
        ]
        var strokes: [UInt8: Stroke] = [UInt8(ascii: "\r"): Stroke(usage: 0x28, isShifted: false)]
        for (first, plain, shifted) in rows {
            for (text, isShifted) in [(plain, false), (shifted, true)] {
                for (index, byte) in text.utf8.enumerated() {
                    strokes[byte] = Stroke(usage: first + UInt8(index), isShifted: isShifted)
                }
            }
        }
        return strokes
    }()
}
