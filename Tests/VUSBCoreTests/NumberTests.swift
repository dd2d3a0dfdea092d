// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@Suite("Numbers of the bus")
struct NumberTests {
    @Test func everyEndpointHasItsOwnIndex() {
        let addresses = (UInt8(0)...15).flatMap {
            [EndpointAddress(number: $0, direction: .out), EndpointAddress(number: $0, direction: .in)]
        }
        #expect(Set(addresses.map(\.index)) == Set(0..<32))
        #expect(Set(addresses.map(\.name)).count == 32)
    }

    @Test(
        "Endpoint addresses",
        arguments: [
            (0x00, 0, TransferDirection.out, "00"), (0x80, 0, .in, "80"), (0x81, 1, .in, "81"), (0x02, 2, .out, "02"),
            (0x8f, 15, .in, "8f"), (0x0f, 15, .out, "0f"),
        ] as [(UInt8, UInt8, TransferDirection, String)]
    )
    func addresses(raw: UInt8, number: UInt8, direction: TransferDirection, name: String) {
        let address = EndpointAddress(rawValue: raw)
        #expect(address.number == number)
        #expect(address.direction == direction)
        #expect(address.name == name)
        #expect(address.description == "0x" + name)
        #expect(EndpointAddress(number: number, direction: direction) == address)
    }

    @Test func reservedBitsOfAnAddressAreDropped() {
        #expect(EndpointAddress(rawValue: 0xff) == EndpointAddress(rawValue: 0x8f))
        #expect(EndpointAddress(number: 0xff, direction: .out).rawValue == 0x0f)
    }

    @Test func tokenHoldsIndexAndGeneration() {
        let token = URBToken(index: 0xffff_fffe, generation: 0xdead_beef)
        #expect(token.index == 0xffff_fffe)
        #expect(token.generation == 0xdead_beef)
        #expect(URBToken(rawValue: token.rawValue) == token)
        #expect(URBToken.none.generation == 0)
    }

    @Test(arguments: DeviceSpeed.allCases)
    func speedIsReadAsItIsPrinted(speed: DeviceSpeed) {
        #expect(DeviceSpeed(sysfsName: speed.sysfsName) == speed)
        #expect(DeviceSpeed(rawValue: speed.rawValue) == speed)
    }

    @Test func unknownSpeedsAreNone() {
        #expect(DeviceSpeed(sysfsName: "20000") == .superPlus)
        for name in ["", "0", "480 ", "unknown", "5000.0"] { #expect(DeviceSpeed(sysfsName: name) == nil) }
    }

    @Test func setupPacketNeedsEightBytes() {
        let bytes: [UInt8] = [0x80, 0x06, 0x02, 0x01, 0x04, 0x03, 0x06, 0x05, 0xff]
        for count in 0..<8 { #expect(SetupPacket(Array(bytes.prefix(count)).span) == nil) }
        let packet = SetupPacket(bytes.span)
        #expect(
            packet
                == SetupPacket(bmRequestType: 0x80, bRequest: 6, wValue: 0x0102, wIndex: 0x0304, wLength: 0x0506)
        )
        #expect(packet?.bytes == Array(bytes.prefix(8)))
    }

    @Test(
        "What bmRequestType says",
        arguments: [
            (0x80, 18, .in, .standard, .device), (0x80, 0, .out, .standard, .device),
            (0x00, 18, .out, .standard, .device),
            (0x21, 7, .out, .class, .interface), (0xc2, 1, .in, .vendor, .endpoint),
            (0xe3, 1, .in, .reserved, .other(3)),
            (0x1f, 0, .out, .standard, .other(31)),
        ] as [(UInt8, UInt16, TransferDirection, SetupPacket.Kind, SetupPacket.Recipient)]
    )
    func requestTypes(
        type: UInt8,
        length: UInt16,
        direction: TransferDirection,
        kind: SetupPacket.Kind,
        recipient: SetupPacket.Recipient
    ) {
        let setup = SetupPacket(bmRequestType: type, bRequest: 0, wValue: 0, wIndex: 0, wLength: length)
        #expect(setup.direction == direction)
        #expect(setup.kind == kind)
        #expect(setup.recipient == recipient)
    }

    /// The errno that each stands for, from Linux's asm-generic/errno-base.h and errno.h.
    @Test(
        "Statuses are Linux's",
        arguments: [
            (.success, 0), (.noEndpoint, -2), (.io, -5), (.again, -11), (.noMemory, -12), (.accessDenied, -13),
            (.busy, -16),
            (.partial, -18), (.noDevice, -19), (.invalid, -22), (.stall, -32), (.protocolError, -71), (.babble, -75),
            (.tooLong, -90), (.notSupported, -95), (.cancelled, -104), (.shutdown, -108), (.timedOut, -110),
            (.shortNotOK, -121),
        ] as [(URBStatus, Int32)]
    )
    func statuses(status: URBStatus, errno: Int32) {
        #expect(status.rawValue == errno)
    }
}
