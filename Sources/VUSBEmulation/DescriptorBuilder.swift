// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// The wire form of an emulated device's descriptors (USB 2.0, 9.6; USB 3.2, 9.6).
enum DescriptorBuilder {
    static func word(_ value: UInt16) -> [UInt8] { [UInt8(truncatingIfNeeded: value), UInt8(value >> 8)] }

    static func interface(
        _ number: UInt8,
        alternate: UInt8 = 0,
        endpoints: UInt8,
        class triple: (UInt8, UInt8, UInt8)
    ) -> [UInt8] {
        [9, DescriptorType.interface, number, alternate, endpoints, triple.0, triple.1, triple.2, 0]
    }

    /// With its companion (burst 0) at SuperSpeed.
    static func endpoint(
        _ address: UInt8,
        _ type: TransferType,
        maxPacket: UInt16,
        interval: UInt8 = 0,
        speed: DeviceSpeed
    ) -> [UInt8] {
        let endpoint = [7, DescriptorType.endpoint, address, type.rawValue] + word(maxPacket) + [interval]
        guard speed == .super else { return endpoint }
        let periodic = type == .interrupt || type == .isochronous
        return endpoint + [6, DescriptorType.endpointCompanion, 0, 0] + word(periodic ? maxPacket : 0)
    }

    static func configuration(
        interfaces: UInt8,
        attributes: UInt8,
        maxPower: UInt8,
        body: [UInt8],
        type: UInt8 = DescriptorType.configuration
    ) -> [UInt8] {
        [9, type] + word(UInt16(9 + body.count)) + [interfaces, 1, 0, attributes, maxPower] + body
    }

    /// USB 2.0 extension (LPM) and the SuperSpeed capability: full, high and super speed, all functions at full.
    static let superSpeedBOS: [UInt8] =
        [5, DescriptorType.bos, 22, 0, 2]
        + [7, 0x10, 0x02, 0x02, 0, 0, 0]
        + [10, 0x10, 0x03, 0x00, 0x0e, 0x00, 0x01, 0x0a, 0xff, 0x07]

    /// Index 0: the languages, of which there is US English.
    static let languages: [UInt8] = [4, DescriptorType.string, 0x09, 0x04]
}
