// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// Puts together, byte by byte, what an importer says.
struct USBIPWire {
    /// Bus 1, device 2: as `USBIPRig` exports.
    var deviceID: UInt32 = 0x0001_0002

    static func big<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
        (0..<Value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> Value(Value.bitWidth - 8 * ($0 + 1))) }
    }

    // MARK: - Operations

    static func operation(_ code: UInt16, version: UInt16 = 0x0111, _ body: [UInt8] = []) -> [UInt8] {
        big(version) + big(code) + [0, 0, 0, 0] + body
    }

    static let list = operation(0x8005)

    static func importDevice(_ busID: String = "1-1") -> [UInt8] { importDevice(padded(busID)) }
    static func importDevice(_ busID: [UInt8]) -> [UInt8] { operation(0x8003, busID) }
    static func padded(_ text: String, _ count: Int = 32) -> [UInt8] {
        Array(text.utf8) + Array(repeating: 0, count: count - text.utf8.count)
    }

    // MARK: - Commands

    /// - Parameter words: `transfer_flags` to `interval`, 5 of them.
    func command(
        _ command: UInt32, _ seqnum: UInt32, direction: UInt32, endpoint: UInt32, _ words: [UInt32],
        setup: [UInt8]? = nil
    ) -> [UInt8] {
        let basic = [command, seqnum, deviceID, direction, endpoint]
        return (basic + words).flatMap(Self.big) + (setup ?? Array(repeating: 0, count: 8))
    }

    /// - Parameter packets: what `number_of_packets` says.
    func submit(
        _ seqnum: UInt32, endpoint: UInt32, isIn: Bool, length: UInt32, flags: UInt32 = 0,
        packets: UInt32 = 0xffff_ffff,
        setup: [UInt8]? = nil
    ) -> [UInt8] {
        command(
            1, seqnum, direction: isIn ? 1 : 0, endpoint: endpoint, [flags, length, 0, packets, 0], setup: setup)
    }

    func bulkIn(_ seqnum: UInt32, _ length: Int, endpoint: UInt32 = 1, flags: UInt32 = 0) -> [UInt8] {
        submit(seqnum, endpoint: endpoint, isIn: true, length: UInt32(length), flags: flags)
    }

    func bulkOut(_ seqnum: UInt32, _ data: [UInt8], endpoint: UInt32 = 2, flags: UInt32 = 0) -> [UInt8] {
        submit(seqnum, endpoint: endpoint, isIn: false, length: UInt32(data.count), flags: flags) + data
    }

    func control(_ seqnum: UInt32, _ setup: SetupPacket, _ data: [UInt8] = []) -> [UInt8] {
        let isIn = setup.bmRequestType & 0x80 != 0
        return submit(seqnum, endpoint: 0, isIn: isIn, length: UInt32(setup.wLength), setup: setup.bytes) + data
    }

    /// - Parameter lengths: of packets that lie one behind the other.
    func isochronousIn(_ seqnum: UInt32, _ lengths: [UInt32], endpoint: UInt32 = 3) -> [UInt8] {
        submit(
            seqnum, endpoint: endpoint, isIn: true, length: lengths.reduce(0, +), flags: 2,
            packets: UInt32(lengths.count))
            + packets(lengths)
    }

    func isochronousOut(_ seqnum: UInt32, _ lengths: [UInt32], _ data: [UInt8], endpoint: UInt32 = 4) -> [UInt8] {
        submit(
            seqnum, endpoint: endpoint, isIn: false, length: UInt32(data.count), flags: 2,
            packets: UInt32(lengths.count))
            + data + packets(lengths)
    }

    private func packets(_ lengths: [UInt32]) -> [UInt8] {
        var offset: UInt32 = 0
        return lengths.flatMap { length -> [UInt8] in
            defer { offset += length }
            return [offset, length, 0, 0].flatMap(Self.big)
        }
    }

    func unlink(_ seqnum: UInt32, _ target: UInt32) -> [UInt8] {
        command(2, seqnum, direction: 0, endpoint: 0, [target, 0, 0, 0, 0])
    }
}

/// Bytes that differ.
func usbipPattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) } }

extension SetupPacket {
    /// GET_DESCRIPTOR of the device.
    static func getDeviceDescriptor(_ length: UInt16 = 18) -> SetupPacket {
        SetupPacket(bmRequestType: 0x80, bRequest: 6, wValue: 0x0100, wIndex: 0, wLength: length)
    }
}
