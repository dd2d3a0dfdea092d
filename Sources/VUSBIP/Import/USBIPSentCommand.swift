// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import VUSBCore

/// The 48 bytes of a command to a server: the other side of `USBIPCommand`.
struct USBIPSentCommand {
    private let command: UInt32
    private let seqnum: UInt32
    private let deviceID: UInt32
    private var direction: UInt32 = 0
    private var endpoint: UInt32 = 0
    /// `transfer_flags` to `interval`; of an UNLINK the seqnum that it means, then zeros.
    private var words: (UInt32, UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0, 0)
    private var setup: SetupPacket?

    /// USBIP_CMD_UNLINK.
    init(unlink target: UInt32, seqnum: UInt32, deviceID: UInt32) {
        command = USBIPNumbers.commandUnlink
        self.seqnum = seqnum
        self.deviceID = deviceID
        words.0 = target
    }

    /// USBIP_CMD_SUBMIT.
    /// - Parameter interval: in the endpoint's frames or microframes; 0 for those that have none.
    init(_ urb: borrowing URB, seqnum: UInt32, deviceID: UInt32, interval: UInt32) {
        command = USBIPNumbers.commandSubmit
        self.seqnum = seqnum
        self.deviceID = deviceID
        setup = urb.usbipSetup
        let isIn = (setup?.direction ?? urb.endpoint.direction) == .in
        direction = isIn ? 1 : 0
        endpoint = UInt32(urb.endpoint.number)
        words = (
            Self.flags(urb, isIn: isIn), UInt32(urb.requestedLength), urb.startFrame, UInt32(urb.packetCount), interval
        )
    }

    /// S1 of Imports.md.
    private static func flags(_ urb: borrowing URB, isIn: Bool) -> UInt32 {
        var flags: UInt32 = isIn ? USBIPNumbers.flagDirectionIn : 0
        if urb.packetCount > 0 { flags |= USBIPNumbers.flagISOASAP }
        if urb.flags.contains(.shortNotOK), isIn { flags |= USBIPNumbers.flagShortNotOK }
        if urb.flags.contains(.zeroPacket), !isIn { flags |= USBIPNumbers.flagZeroPacket }
        return flags
    }

    fileprivate func write(to buffer: inout ByteBuffer) {
        buffer.writeMultipleIntegers(command, seqnum, deviceID, direction, endpoint)
        buffer.writeMultipleIntegers(words.0, words.1, words.2, words.3, words.4)
        guard let setup else {
            buffer.writeRepeatingByte(0, count: SetupPacket.byteCount)
            return
        }
        buffer.writeMultipleIntegers(setup.bmRequestType, setup.bRequest)
        buffer.writeMultipleIntegers(setup.wValue, setup.wIndex, setup.wLength, endianness: .little)
    }
}

extension ByteBuffer {
    mutating func append(_ command: USBIPSentCommand) { command.write(to: &self) }
}

extension URB {
    /// Of endpoint 0: what `VirtualDevice` has made an operation of is a request again.
    var usbipSetup: SetupPacket? {
        switch operation {
        case .transfer: setup
        case .setConfiguration(let value): .setConfiguration(value)
        case .setInterface(let interface, let alternate): .setInterface(interface, alternate: alternate)
        case .clearHalt(let address): .clearHalt(address)
        }
    }
}

extension SetupPacket {
    static func setConfiguration(_ value: UInt8) -> SetupPacket {
        SetupPacket(
            bmRequestType: 0, bRequest: StandardRequest.setConfiguration, wValue: UInt16(value), wIndex: 0, wLength: 0)
    }

    static func setInterface(_ interface: InterfaceNumber, alternate: UInt8) -> SetupPacket {
        SetupPacket(
            bmRequestType: 1, bRequest: StandardRequest.setInterface, wValue: UInt16(alternate),
            wIndex: UInt16(interface.rawValue), wLength: 0)
    }

    static func clearHalt(_ address: EndpointAddress) -> SetupPacket {
        SetupPacket(
            bmRequestType: 2, bRequest: StandardRequest.clearFeature, wValue: StandardFeature.endpointHalt,
            wIndex: UInt16(address.rawValue), wLength: 0)
    }

    static func getDescriptor(_ type: UInt8, _ index: UInt8 = 0, language: UInt16 = 0, length: Int) -> SetupPacket {
        SetupPacket(
            bmRequestType: 0x80, bRequest: StandardRequest.getDescriptor, wValue: UInt16(type) << 8 | UInt16(index),
            wIndex: language, wLength: UInt16(clamping: length))
    }

    static let getConfiguration = SetupPacket(
        bmRequestType: 0x80, bRequest: StandardRequest.getConfiguration, wValue: 0, wIndex: 0, wLength: 1)
}

extension EndpointDescriptor {
    /// As `urb->interval` of Linux (S3 of Imports.md).
    func usbipInterval(_ speed: DeviceSpeed) -> UInt32 {
        let exponential: UInt32 = 1 << UInt32(min(max(bInterval, 1), 16) - 1)
        switch transferType {
        case .control, .bulk: return 0
        case .isochronous: return exponential
        case .interrupt: return speed == .low || speed == .full ? UInt32(max(bInterval, 1)) : exponential
        }
    }
}
