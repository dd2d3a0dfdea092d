// SPDX-License-Identifier: Apache-2.0

internal import CUSBRedirParser
internal import VUSBCore

/// What both sides can, as far as it changes the form of messages.
struct RedirForm: Equatable {
    /// Ids have 64 bits.
    var hasLongIDs = false
    /// Bulk packets' lengths have 32 bits.
    var hasLongBulk = false

    /// Bytes of a message's header.
    var headerLength: Int { hasLongIDs ? 16 : 12 }
}

/// The header of a message with data, and what its type has besides: the data follow from where they are, so that they
/// aren't copied as libusbredirparser would (usb-redirection-protocol.txt, 0.7; little-endian, packed).
struct RedirHeader {
    static let longest = 28

    private(set) var bytes = InlineArray<28, UInt8>(repeating: 0)
    private(set) var count = 0

    /// Nothing.
    init() {}

    /// - Parameter dataCount: bytes of data behind it.
    private init(_ type: Int, id: UInt64, typeLength: Int, dataCount: Int, _ form: RedirForm) {
        append(UInt32(truncatingIfNeeded: type))
        append(UInt32(truncatingIfNeeded: typeLength + dataCount))
        if form.hasLongIDs { append(id) } else { append(UInt32(truncatingIfNeeded: id)) }
    }

    private mutating func append<Value: FixedWidthInteger>(_ value: Value) {
        var rest = value
        for _ in 0..<(Value.bitWidth / 8) {
            bytes[count] = UInt8(truncatingIfNeeded: rest)
            count += 1
            if Value.bitWidth > 8 { rest >>= 8 }
        }
    }

    /// The answer to a transfer.
    /// - Parameters:
    ///   - length: bytes that were moved.
    ///   - dataCount: of those, the bytes that follow.
    init(
        answering transfer: RedirTransfer, _ status: RedirStatusCode, length: Int, dataCount: Int, _ form: RedirForm
    ) {
        switch transfer.kind {
        case .control(let setup):
            self.init(usb_redir_control_packet, id: transfer.id, typeLength: 10, dataCount: dataCount, form)
            append(transfer.endpoint)
            append(setup.bRequest)
            append(setup.bmRequestType)
            append(status.rawValue)
            append(setup.wValue)
            append(setup.wIndex)
            append(UInt16(truncatingIfNeeded: length))
        case .bulk(let streamID):
            let typeLength = form.hasLongBulk ? 10 : 8
            self.init(usb_redir_bulk_packet, id: transfer.id, typeLength: typeLength, dataCount: dataCount, form)
            append(transfer.endpoint)
            append(status.rawValue)
            append(UInt16(truncatingIfNeeded: length))
            append(streamID)
            if form.hasLongBulk { append(UInt16(truncatingIfNeeded: length >> 16)) }
        case .interrupt:
            self.init(usb_redir_interrupt_packet, id: transfer.id, typeLength: 4, dataCount: dataCount, form)
            append(transfer.endpoint)
            append(status.rawValue)
            append(UInt16(truncatingIfNeeded: length))
        }
    }

    /// What a stream has received: a transfer of it, or one packet of an isochronous one.
    init(
        of stream: borrowing RedirStream, id: UInt64, _ status: RedirStatusCode, dataCount: Int, _ form: RedirForm
    ) {
        switch stream.wish.kind {
        case .isochronous, .interrupt:
            let type = stream.wish.kind == .interrupt ? usb_redir_interrupt_packet : usb_redir_iso_packet
            self.init(type, id: id, typeLength: 4, dataCount: dataCount, form)
            append(stream.wish.endpoint)
            append(status.rawValue)
            append(UInt16(truncatingIfNeeded: dataCount))
        case .bulk:
            self.init(usb_redir_buffered_bulk_packet, id: id, typeLength: 10, dataCount: dataCount, form)
            append(stream.wish.streamID)
            append(UInt32(truncatingIfNeeded: dataCount))
            append(stream.wish.endpoint)
            append(status.rawValue)
        }
    }

    /// Bytes of an isochronous packet's header.
    static func isochronousLength(_ form: RedirForm) -> Int { form.headerLength + 4 }
}
