// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// What an emulated device says of itself, at one speed. Immutable, and shared by all devices of a kind and speed.
final class Blueprint: Sendable {
    let speed: DeviceSpeed
    let device: [UInt8]
    let configuration: [UInt8]
    let descriptors: Descriptors
    /// Only of a device that has a high speed: nil is a stall.
    let qualifier: [UInt8]?
    let otherSpeedConfiguration: [UInt8]?
    let bos: [UInt8]?
    let product: String
    static let manufacturer = "vusb"

    /// What makes a kind of device; `body` is what follows the configuration descriptor at a speed.
    struct Kind: Sendable {
        let name: String
        let product: String
        let identity: (vendor: UInt16, product: UInt16)
        var deviceClass: (UInt8, UInt8, UInt8) = (0, 0, 0)
        /// The first is the default.
        let speeds: [DeviceSpeed]
        let interfaces: UInt8
        /// `bmAttributes` of the configuration.
        var attributes: UInt8 = 0x80
        var milliamps = 100
        let body: @Sendable (DeviceSpeed) -> [UInt8]
    }

    init(_ kind: Kind, speed: DeviceSpeed) throws(DescriptorError) {
        self.speed = speed
        product = kind.product
        device = Self.device(kind, speed)
        configuration = Self.configuration(kind, speed, type: DescriptorType.configuration)
        descriptors = try Descriptors(parsing: device + configuration)
        let isHigh = speed == .high
        qualifier = isHigh ? Self.qualifier(kind) : nil
        otherSpeedConfiguration =
            isHigh ? Self.configuration(kind, .full, type: DescriptorType.otherSpeedConfiguration) : nil
        bos = speed == .super ? DescriptorBuilder.superSpeedBOS : nil
    }

    private static func configuration(_ kind: Kind, _ speed: DeviceSpeed, type: UInt8) -> [UInt8] {
        DescriptorBuilder.configuration(
            interfaces: kind.interfaces,
            attributes: kind.attributes,
            // 2 mA units up to high speed, 8 mA units above.
            maxPower: UInt8(kind.milliamps / (speed == .super ? 8 : 2)),
            body: kind.body(speed),
            type: type
        )
    }

    private static func device(_ kind: Kind, _ speed: DeviceSpeed) -> [UInt8] {
        let version: UInt16 = speed == .super ? 0x0300 : 0x0200
        // At SuperSpeed it's an exponent: 2^9 bytes.
        let maxPacket0: UInt8 = speed == .super ? 9 : speed == .low ? 8 : 64
        let triple = [kind.deviceClass.0, kind.deviceClass.1, kind.deviceClass.2]
        return [18, DescriptorType.device] + DescriptorBuilder.word(version) + triple + [maxPacket0]
            + DescriptorBuilder.word(kind.identity.vendor) + DescriptorBuilder.word(kind.identity.product)
            + DescriptorBuilder.word(0x0100) + [1, 2, 3, 1]
    }

    /// USB 2.0, 9.6.2.
    private static func qualifier(_ kind: Kind) -> [UInt8] {
        let triple = [kind.deviceClass.0, kind.deviceClass.1, kind.deviceClass.2]
        return [10, DescriptorType.deviceQualifier] + DescriptorBuilder.word(0x0200) + triple + [64, 1, 0]
    }
}
