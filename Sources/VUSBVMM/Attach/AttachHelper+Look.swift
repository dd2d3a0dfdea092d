// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VUSBCore

extension AttachHelper {
    /// A file that is to be the helper.
    package struct Look: Sendable, Equatable {
        package var path: String
        /// It needs none of the guest's libraries.
        package var isStatic: Bool
        /// vusbd makes its copies so; people want it, too.
        package var isExecutable: Bool
    }

    /// - Throws: `notFound`, `accessDenied`, `io`, `invalid`.
    package static func look(at path: String) throws(USBError) -> Look {
        let bytes = try LocalFile.read(path, limit: maximumSize + 1)
        guard bytes.count <= maximumSize, let needsLoader = needsLoader(bytes) else {
            throw USBError(.invalid, "\(path) is no program of Linux's", remedy: remedy)
        }
        return Look(path: path, isStatic: !needsLoader, isExecutable: unsafe access(path, X_OK) == 0)
    }

    /// Whether one of a 64-bit little-endian ELF program's headers names an interpreter, which is the dynamic loader. Nil for
    /// anything else.
    private static func needsLoader(_ bytes: [UInt8]) -> Bool? {
        guard bytes.count >= 64, bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]), bytes[17] == 0,
            [2, 3].contains(bytes[16])
        else { return nil }
        let (size, count) = (number(bytes, at: 54, 2), number(bytes, at: 56, 2))
        let start = number(bytes, at: 32, 8)
        return (0..<count).contains { index in
            let (offset, overflow) = start.addingReportingOverflow(index * size)
            return !overflow && offset <= UInt64(bytes.count - 4) && number(bytes, at: Int(offset), 4) == 3
        }
    }

    private static func number(_ bytes: [UInt8], at offset: Int, _ count: Int) -> UInt64 {
        (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
    }
}
