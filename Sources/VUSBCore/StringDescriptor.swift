// SPDX-License-Identifier: Apache-2.0

/// A text that a device tells of itself (USB 2.0, 9.6.7): UTF-16, little-endian.
package struct StringDescriptor: Sendable, Equatable {
    /// Safe to show: lone surrogates and control characters are U+FFFD; it ends before the first NUL, which some
    /// devices fill up with, as sysfs has it.
    package var text: String

    package init(text: String) { self.text = text }

    /// Parses a string descriptor. Bytes behind `bLength` aren't looked at, nor is half a code unit at the end.
    /// - Throws: with the offset of the byte that can't be right.
    package init(parsing bytes: [UInt8]) throws(DescriptorError) {
        let units = try Self.codeUnits(bytes)
        let visible = units.prefix { $0 != 0 }.map { Self.isControl($0) ? 0xfffd : $0 }
        self.init(text: String(decoding: visible, as: UTF16.self))
    }

    /// The language ids of string descriptor 0, in the device's order.
    package static func languages(parsing bytes: [UInt8]) throws(DescriptorError) -> [UInt16] {
        try codeUnits(bytes)
    }

    /// The descriptor's bytes for `text`; what doesn't fit into its 126 code units is cut off.
    package var bytes: [UInt8] {
        let units = text.utf16.prefix(126)
        return [UInt8(2 + 2 * units.count), DescriptorType.string]
            + units.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
    }

    private static func codeUnits(_ bytes: [UInt8]) throws(DescriptorError) -> [UInt16] {
        var reader = DescriptorReader(bytes)
        let raw = try reader.next()
        guard raw.type == DescriptorType.string else {
            throw DescriptorError(at: 1, "bDescriptorType \(raw.type), not a string descriptor")
        }
        var units: [UInt16] = []
        units.reserveCapacity(raw.length / 2)
        for index in stride(from: 2, to: raw.length - 1, by: 2) { units.append(try raw.word(index)) }
        return units
    }

    /// C0, DEL and C1: what a terminal or a line-based file would act on.
    private static func isControl(_ unit: UInt16) -> Bool { unit < 0x20 || (0x7f...0x9f).contains(unit) }
}
