// SPDX-License-Identifier: Apache-2.0

/// Walks over descriptors in bytes that a device sent: it never reads past the end, always advances, and knows where
/// it is. Every length is checked here, so that the parsers only say which fields they want.
package struct DescriptorReader: Sendable {
    private let bytes: [UInt8]
    /// Of the next descriptor.
    package private(set) var offset: Int
    /// The first byte that isn't this reader's.
    package let end: Int

    package init(_ bytes: [UInt8]) {
        self.bytes = bytes
        offset = 0
        end = bytes.count
    }

    private init(_ bytes: [UInt8], from offset: Int, to end: Int) {
        self.bytes = bytes
        self.offset = offset
        self.end = end
    }

    package var remaining: Int { end - offset }

    /// One descriptor, its header checked: `bLength` bytes that are all there.
    package struct RawDescriptor: Sendable {
        fileprivate let bytes: [UInt8]
        /// Where it begins, counted as in `DescriptorError.offset`.
        package let offset: Int
        package let length: Int
        package let type: UInt8

        /// The byte at `index`; throws where the descriptor is too short for it.
        package func byte(_ index: Int) throws(DescriptorError) -> UInt8 {
            guard index >= 0, index < length else {
                throw DescriptorError(at: offset, "bLength \(length) leaves no room for the field at \(index)")
            }
            return bytes[offset + index]
        }

        /// Little-endian, from `index`.
        package func word(_ index: Int) throws(DescriptorError) -> UInt16 {
            // The later byte first: where that is there, so is the other.
            let high = try byte(index + 1)
            return UInt16(high) << 8 | UInt16(try byte(index))
        }

        /// Little-endian, from `index`.
        package func doubleWord(_ index: Int) throws(DescriptorError) -> UInt32 {
            let high = try word(index + 2)
            return UInt32(high) << 16 | UInt32(try word(index))
        }

        /// All from `index` to the descriptor's end; empty where it ends before.
        package func rest(from index: Int) -> [UInt8] {
            index >= 0 && index < length ? Array(bytes[offset + index..<offset + length]) : []
        }

        /// Throws unless it is at least `minimum` bytes long: what its type needs.
        package func require(_ minimum: Int, _ name: String) throws(DescriptorError) {
            guard length >= minimum else {
                throw DescriptorError(at: offset, "bLength \(length), but \(name) has \(minimum) bytes")
            }
        }
    }

    /// The next descriptor, without passing it.
    package func peek() throws(DescriptorError) -> RawDescriptor {
        guard remaining >= 2 else {
            throw DescriptorError(at: offset, "\(remaining) bytes left, no room for a descriptor's header")
        }
        let length = Int(bytes[offset])
        guard length >= 2 else {
            throw DescriptorError(at: offset, "bLength \(length), shorter than a descriptor's header")
        }
        guard length <= remaining else {
            throw DescriptorError(at: offset, "bLength \(length) is past the end, \(remaining) bytes are left")
        }
        return RawDescriptor(bytes: bytes, offset: offset, length: length, type: bytes[offset + 1])
    }

    /// The next descriptor, and passes it.
    package mutating func next() throws(DescriptorError) -> RawDescriptor {
        let descriptor = try peek()
        offset += descriptor.length
        return descriptor
    }

    /// A reader for the next `count` bytes, which this one passes; nil where there are fewer.
    package mutating func split(_ count: Int) -> DescriptorReader? {
        guard count >= 0, count <= remaining else { return nil }
        defer { offset += count }
        return DescriptorReader(bytes, from: offset, to: offset + count)
    }
}
