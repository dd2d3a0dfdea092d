// SPDX-License-Identifier: Apache-2.0

/// A fuzzer's input, read as the choices that a driver has. At its end all choices are 0.
package struct FuzzStream {
    private var bytes: ArraySlice<UInt8>

    package init(_ bytes: [UInt8]) { self.bytes = bytes[...] }

    package var isEmpty: Bool { bytes.isEmpty }
    package mutating func byte() -> UInt8 { bytes.popFirst() ?? 0 }
    package mutating func word() -> UInt16 { UInt16(byte()) | UInt16(byte()) << 8 }

    /// At most `count` bytes.
    package mutating func take(_ count: Int) -> [UInt8] {
        defer { bytes = bytes.dropFirst(count) }
        return Array(bytes.prefix(count))
    }
}
