// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A command of a peer that has imported a device: the 48 bytes that it begins with, checked.
enum USBIPCommand: Equatable {
    case submit(USBIPSubmit)
    case unlink(seqnum: UInt32, target: UInt32)

    /// - Parameters:
    ///   - bytes: at least 48.
    ///   - deviceID: of the device that the peer has imported.
    init(_ bytes: RawSpan, deviceID: UInt32) throws(USBIPViolation) {
        guard !Self.isFarewell(bytes) else { throw .farewell }
        let seqnum = bytes.bigEndian(at: 4)
        guard bytes.bigEndian(at: 8) == deviceID else { throw .deviceID(bytes.bigEndian(at: 8)) }
        switch bytes.bigEndian(at: 0) {
        case USBIPNumbers.commandSubmit: self = .submit(try USBIPSubmit(bytes, seqnum: seqnum))
        case USBIPNumbers.commandUnlink: self = .unlink(seqnum: seqnum, target: bytes.bigEndian(at: 20))
        case let command: throw .command(command)
        }
    }

    /// Nothing but zeros: the end, from a stream that can't be seen to be closed.
    private static func isFarewell(_ bytes: RawSpan) -> Bool {
        // Of all others the first words aren't both zero.
        guard bytes.bigEndian(at: 0) == 0, bytes.bigEndian(at: 8) == 0 else { return false }
        return (0..<USBIPNumbers.headerBytes).allSatisfy { bytes.byte(at: $0) == 0 }
    }
}

/// USBIP_CMD_SUBMIT. How many bytes follow it is known and bounded; what the transfer may be isn't checked yet.
struct USBIPSubmit: Equatable {
    let seqnum: UInt32
    let direction: TransferDirection
    /// Its number; any.
    let endpoint: UInt32
    let flags: UInt32
    /// Bytes to move; those of an OUT transfer follow.
    let length: Int
    let startFrame: UInt32
    /// As the peer has it, to be answered so.
    let wirePacketCount: UInt32
    let setup: SetupPacket

    init(_ bytes: RawSpan, seqnum: UInt32) throws(USBIPViolation) {
        self.seqnum = seqnum
        switch bytes.bigEndian(at: 12) {
        case 0: direction = .out
        case 1: direction = .in
        case let direction: throw .direction(direction)
        }
        endpoint = bytes.bigEndian(at: 16)
        flags = bytes.bigEndian(at: 20)
        let length = bytes.bigEndian(at: 24)
        guard length <= Int32.max, direction == .in || length <= USBIPLimits.bytes else { throw .length(length) }
        self.length = Int(length)
        startFrame = bytes.bigEndian(at: 28)
        wirePacketCount = bytes.bigEndian(at: 32)
        guard wirePacketCount <= IsoPacketTable.maximumCount || wirePacketCount == USBIPNumbers.noPackets else {
            throw .packetCount(wirePacketCount)
        }
        setup = SetupPacket(
            bmRequestType: bytes.byte(at: 40), bRequest: bytes.byte(at: 41), wValue: bytes.littleEndian(at: 42),
            wIndex: bytes.littleEndian(at: 44), wLength: bytes.littleEndian(at: 46))
    }

    /// 0 unless isochronous.
    var packetCount: Int { wirePacketCount == USBIPNumbers.noPackets ? 0 : Int(wirePacketCount) }
    /// Bytes that follow the header, before those of the packets.
    var dataCount: Int { direction == .out ? length : 0 }

    /// `control` for any transfer of endpoint 0.
    var address: EndpointAddress {
        endpoint == 0 ? .control : EndpointAddress(number: UInt8(truncatingIfNeeded: endpoint), direction: direction)
    }

    /// What it ends with before anybody looks at the device: A10 and A11 of USBIP.md.
    var refusal: URBStatus? {
        if length > USBIPLimits.bytes { return .tooLong }
        guard endpoint <= 15 else { return .invalid }
        guard endpoint == 0 else { return nil }
        // Data that would go the other way than the header says would be of this host's memory, or of nobody's.
        guard Int(setup.wLength) == length, length == 0 || setup.direction == direction else { return .invalid }
        return nil
    }

    /// A15: what a root hub's port understands.
    var isPortReset: Bool { endpoint == 0 && setup == .portReset(setup.wIndex) }

    var urbFlags: URB.Flags {
        // By numbers: as a set it costs several hundred instructions a URB.
        let isShortNotOK = flags & USBIPNumbers.flagShortNotOK != 0
        let isZeroPacket = flags & USBIPNumbers.flagZeroPacket != 0 && direction == .out
        return URB.Flags(
            rawValue: (isShortNotOK ? URB.Flags.shortNotOK.rawValue : 0)
                | (isZeroPacket ? URB.Flags.zeroPacket.rawValue : 0))
    }
}

extension SetupPacket {
    /// SET_FEATURE(PORT_RESET) (USB 2.0, 11.24.2.13): what stands for a reset in USB/IP.
    static func portReset(_ port: UInt16 = 0) -> SetupPacket {
        SetupPacket(
            bmRequestType: 0x23, bRequest: StandardRequest.setFeature, wValue: USBIPNumbers.featurePortReset,
            wIndex: port, wLength: 0)
    }
}

extension IsoPacket {
    /// What the peer says of length and status already has no meaning.
    init(_ bytes: RawSpan, at offset: Int) {
        self.init(offset: bytes.bigEndian(at: offset), length: bytes.bigEndian(at: offset + 4))
    }
}

extension RawSpan {
    /// These trap outside of the span: who calls them has counted.
    func byte(at offset: Int) -> UInt8 {
        // SAFETY: any byte is a UInt8; the bounds are checked.
        unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    func bigEndian(at offset: Int) -> UInt32 {
        // SAFETY: any bytes are a UInt32; the bounds are checked.
        UInt32(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    func bigEndianHalf(at offset: Int) -> UInt16 {
        // SAFETY: as above.
        UInt16(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    func littleEndian(at offset: Int) -> UInt16 {
        // SAFETY: as above.
        UInt16(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
}
