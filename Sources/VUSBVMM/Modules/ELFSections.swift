// SPDX-License-Identifier: Apache-2.0

/// Finds sections of a 64-bit little-endian ELF file (the System V ABI's gABI, chapter 4). Bytes from outside: every
/// number in them is compared with what there is before it's used.
struct ELFSections {
    /// `EM_X86_64` and the like.
    let machine: UInt16
    private let tableOffset: Int
    private let count: Int
    /// The bytes of the section names.
    private let names: Range<Int>

    /// Of a header of the file, and of one section.
    private static let headerSize = 64
    /// `ET_REL`: a kernel module is an object file.
    private static let relocatable: UInt16 = 1
    /// `SHT_NOBITS`: the section has no bytes in the file.
    private static let withoutBytes: UInt32 = 8

    /// Nil unless this is a relocatable file with a table of sections.
    init?(_ bytes: borrowing Span<UInt8>) {
        // 7f E L F, 64 bits, little-endian, version 1.
        let magic: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]
        guard bytes.count >= Self.headerSize, magic.indices.allSatisfy({ bytes[$0] == magic[$0] }),
            bytes.number(at: 16, as: UInt16.self) == Self.relocatable,
            let machine = bytes.number(at: 18, as: UInt16.self),
            let offset = bytes.number(at: 40, as: UInt64.self).flatMap({ Int(exactly: $0) }),
            bytes.number(at: 58, as: UInt16.self) == UInt16(Self.headerSize),
            let count = bytes.number(at: 60, as: UInt16.self).map({ Int($0) }),
            let namesIndex = bytes.number(at: 62, as: UInt16.self).map({ Int($0) }),
            // No table is as long as 4 MiB, so the product can't overflow.
            offset <= bytes.count - count * Self.headerSize, namesIndex < count,
            let names = Self.range(ofSection: namesIndex, tableOffset: offset, in: bytes)
        else { return nil }
        self.machine = machine
        self.tableOffset = offset
        self.count = count
        self.names = names
    }

    /// The bytes of the first section with that name.
    func range(of name: StaticString, in bytes: borrowing Span<UInt8>) -> Range<Int>? {
        let wanted = Array("\(name)".utf8) + [0]
        for index in 0..<count where isNamed(wanted, section: index, in: bytes) {
            return Self.range(ofSection: index, tableOffset: tableOffset, in: bytes)
        }
        return nil
    }

    private func isNamed(_ wanted: [UInt8], section: Int, in bytes: borrowing Span<UInt8>) -> Bool {
        guard let offset = bytes.number(at: tableOffset + section * Self.headerSize, as: UInt32.self),
            names.count >= wanted.count, Int(offset) <= names.count - wanted.count
        else { return false }
        return wanted.indices.allSatisfy { bytes[names.lowerBound + Int(offset) + $0] == wanted[$0] }
    }

    private static func range(
        ofSection index: Int, tableOffset: Int, in bytes: borrowing Span<UInt8>
    ) -> Range<Int>? {
        let header = tableOffset + index * headerSize
        guard bytes.number(at: header + 4, as: UInt32.self).map({ $0 != withoutBytes }) == true,
            let offset = bytes.number(at: header + 24, as: UInt64.self).flatMap({ Int(exactly: $0) }),
            let size = bytes.number(at: header + 32, as: UInt64.self).flatMap({ Int(exactly: $0) }),
            size <= bytes.count, offset <= bytes.count - size
        else { return nil }
        return offset..<offset + size
    }
}

extension Span<UInt8> {
    /// A little-endian number; nil where the bytes end before it does.
    fileprivate func number<T: FixedWidthInteger>(at offset: Int, as type: T.Type) -> T? {
        let size = T.bitWidth / 8
        guard offset >= 0, count >= size, offset <= count - size else { return nil }
        return (0..<size).reversed().reduce(into: T.zero) { value, index in
            value = value << 8 | T(truncatingIfNeeded: self[offset + index])
        }
    }
}
