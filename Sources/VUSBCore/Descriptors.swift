// SPDX-License-Identifier: Apache-2.0

/// What a device says of itself: the device descriptor and its configurations, as sysfs has them in `descriptors`.
/// Parsed once from hostile bytes by `Descriptors.init(parsing:)`.
package struct Descriptors: Sendable, Equatable {
    package var device: DeviceDescriptor
    package var configurations: [ConfigurationDescriptor]
    /// The bytes that this was parsed from.
    package var bytes: [UInt8]

    package func configuration(value: UInt8) -> ConfigurationDescriptor? {
        configurations.first { $0.bConfigurationValue == value }
    }
}

/// USB 2.0, table 9-8.
package struct DeviceDescriptor: Sendable, Equatable {
    package var bcdUSB: UInt16
    package var bDeviceClass: UInt8
    package var bDeviceSubClass: UInt8
    package var bDeviceProtocol: UInt8
    package var bMaxPacketSize0: UInt8
    package var idVendor: UInt16
    package var idProduct: UInt16
    package var bcdDevice: UInt16
    package var iManufacturer: UInt8
    package var iProduct: UInt8
    package var iSerialNumber: UInt8
    package var bNumConfigurations: UInt8
}

/// USB 2.0, table 9-10, with all that belongs to it.
package struct ConfigurationDescriptor: Sendable, Equatable {
    package var bConfigurationValue: UInt8
    package var iConfiguration: UInt8
    package var bmAttributes: UInt8
    package var bMaxPower: UInt8
    package var interfaces: [InterfaceDescriptor]

    /// The first interface of each number at the given alternate settings, which default to 0.
    package func alternateSettings(_ chosen: [InterfaceNumber: UInt8]) -> [InterfaceDescriptor] {
        interfaces.filter { $0.bAlternateSetting == chosen[$0.bInterfaceNumber] ?? 0 }
    }
}

/// One alternate setting of one interface (USB 2.0, table 9-12).
package struct InterfaceDescriptor: Sendable, Equatable {
    package var bInterfaceNumber: InterfaceNumber
    package var bAlternateSetting: UInt8
    package var bInterfaceClass: UInt8
    package var bInterfaceSubClass: UInt8
    package var bInterfaceProtocol: UInt8
    package var iInterface: UInt8
    package var endpoints: [EndpointDescriptor]
}

/// USB 2.0, table 9-13, and its SuperSpeed companion where it has one.
package struct EndpointDescriptor: Sendable, Equatable {
    package var bEndpointAddress: EndpointAddress
    package var bmAttributes: UInt8
    package var wMaxPacketSize: UInt16
    package var bInterval: UInt8
    package var companion: EndpointCompanion?

    package var transferType: TransferType { TransferType(rawValue: bmAttributes & 3) ?? .bulk }

    /// Bytes of one packet.
    package var maxPacketSize: Int { Int(wMaxPacketSize & 0x7ff) }

    /// Bytes of one service interval: isochronous and interrupt endpoints may send several packets in it.
    package var maxBytesPerInterval: Int {
        guard transferType == .isochronous || transferType == .interrupt else { return maxPacketSize }
        if let companion { return max(Int(companion.wBytesPerInterval), maxPacketSize) }
        return maxPacketSize * (Int((wMaxPacketSize >> 11) & 3) + 1)
    }
}

/// USB 3.2, table 9-27.
package struct EndpointCompanion: Sendable, Equatable {
    package var bMaxBurst: UInt8
    package var bmAttributes: UInt8
    package var wBytesPerInterval: UInt16
}

/// Why descriptors were refused: what is wrong and at which byte.
package struct DescriptorError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Counted from the first byte of what was parsed.
    package let offset: Int
    package let message: String

    package init(at offset: Int, _ message: String) {
        self.offset = offset
        self.message = message
    }

    package var description: String { "descriptor at byte \(offset): \(message)" }
}
