// SPDX-License-Identifier: Apache-2.0

/// Which way bytes go, from the host's view (USB 2.0, 5.3.2).
package enum TransferDirection: Sendable {
    case `in`
    case out
}

/// `bEndpointAddress`: number 0-15 in the low bits, direction in bit 7 (USB 2.0, table 9-13).
package struct EndpointAddress: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt8

    /// Reserved bits 4-6 are dropped: no endpoint differs in them.
    package init(rawValue: UInt8) { self.rawValue = rawValue & 0x8f }

    package init(number: UInt8, direction: TransferDirection) {
        self.init(rawValue: (number & 0x0f) | (direction == .in ? 0x80 : 0))
    }

    package static let control = EndpointAddress(rawValue: 0)

    package var number: UInt8 { rawValue & 0x0f }
    package var direction: TransferDirection { rawValue & 0x80 != 0 ? .in : .out }

    /// 0-31, dense: for tables with a row for every possible endpoint.
    package var index: Int { Int(rawValue & 0x0f) | (rawValue & 0x80 != 0 ? 16 : 0) }

    /// Two hexadecimal digits, as files in `ep/` are named.
    package var name: String {
        let digits = String(rawValue, radix: 16)
        return digits.count < 2 ? "0" + digits : digits
    }
}

extension EndpointAddress: CustomStringConvertible {
    package var description: String { "0x" + name }
}
