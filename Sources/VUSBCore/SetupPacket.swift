// SPDX-License-Identifier: Apache-2.0

/// The eight bytes that begin a control transfer (USB 2.0, 9.3), little-endian on the wire.
package struct SetupPacket: Hashable, Sendable {
    package static let byteCount = 8

    package var bmRequestType: UInt8
    package var bRequest: UInt8
    package var wValue: UInt16
    package var wIndex: UInt16
    package var wLength: UInt16

    package init(bmRequestType: UInt8, bRequest: UInt8, wValue: UInt16, wIndex: UInt16, wLength: UInt16) {
        self.bmRequestType = bmRequestType
        self.bRequest = bRequest
        self.wValue = wValue
        self.wIndex = wIndex
        self.wLength = wLength
    }

    /// Nil unless there are at least eight bytes; what follows them is the caller's.
    package init?(_ bytes: borrowing Span<UInt8>) {
        guard bytes.count >= Self.byteCount else { return nil }
        self.init(
            bmRequestType: bytes[0],
            bRequest: bytes[1],
            wValue: UInt16(bytes[2]) | UInt16(bytes[3]) << 8,
            wIndex: UInt16(bytes[4]) | UInt16(bytes[5]) << 8,
            wLength: UInt16(bytes[6]) | UInt16(bytes[7]) << 8
        )
    }

    package var bytes: [UInt8] {
        [
            bmRequestType, bRequest, UInt8(truncatingIfNeeded: wValue), UInt8(wValue >> 8),
            UInt8(truncatingIfNeeded: wIndex), UInt8(wIndex >> 8), UInt8(truncatingIfNeeded: wLength),
            UInt8(wLength >> 8),
        ]
    }

    /// The direction of the data stage. A transfer without one (wLength 0) counts as OUT, whatever bit 7 says.
    package var direction: TransferDirection { bmRequestType & 0x80 != 0 && wLength > 0 ? .in : .out }

    /// Who defines the request: bits 5 and 6 of `bmRequestType` (USB 2.0, table 9-2).
    package enum Kind: UInt8, Sendable {
        case standard = 0
        case `class` = 1
        case vendor = 2
        case reserved = 3
    }

    /// Whom the request is for: bits 0 to 4 of `bmRequestType` (USB 2.0, table 9-2).
    package enum Recipient: Hashable, Sendable {
        case device
        /// `wIndex` has its number.
        case interface
        /// `wIndex` has its address.
        case endpoint
        /// "Other" (3) and the reserved values.
        case other(UInt8)
    }

    /// Who defines the request.
    package var kind: Kind {
        switch (bmRequestType >> 5) & 3 {
        case 0: .standard
        case 1: .class
        case 2: .vendor
        default: .reserved
        }
    }

    /// Whom the request is for.
    package var recipient: Recipient {
        switch bmRequestType & 0x1f {
        case 0: .device
        case 1: .interface
        case 2: .endpoint
        case let value: .other(value)
        }
    }
}

/// `bRequest` of the standard requests (USB 2.0, table 9-4; USB 3.2, table 9-4).
package enum StandardRequest {
    package static let getStatus: UInt8 = 0
    package static let clearFeature: UInt8 = 1
    package static let setFeature: UInt8 = 3
    package static let setAddress: UInt8 = 5
    package static let getDescriptor: UInt8 = 6
    package static let setDescriptor: UInt8 = 7
    package static let getConfiguration: UInt8 = 8
    package static let setConfiguration: UInt8 = 9
    package static let getInterface: UInt8 = 10
    package static let setInterface: UInt8 = 11
    package static let synchFrame: UInt8 = 12
    package static let setSel: UInt8 = 48
    package static let setIsochDelay: UInt8 = 49
}

/// Feature selectors (USB 2.0, table 9-6).
package enum StandardFeature {
    package static let endpointHalt: UInt16 = 0
    package static let remoteWakeup: UInt16 = 1
}
