// SPDX-License-Identifier: Apache-2.0

/// `bInterfaceNumber` (USB 2.0, table 9-12).
package struct InterfaceNumber: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
}

extension InterfaceNumber: CustomStringConvertible {
    package var description: String { String(rawValue) }
}
