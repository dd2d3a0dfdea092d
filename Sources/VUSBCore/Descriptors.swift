// SPDX-License-Identifier: Apache-2.0

/// What a device says of itself: the device descriptor and its configurations, as sysfs has them in `descriptors`.
/// Parsed once from hostile bytes by `Descriptors.init(parsing:)`.
package struct Descriptors: Sendable, Equatable {
    package var device: DeviceDescriptor
    package var configurations: [ConfigurationDescriptor]
    /// The bytes that this was parsed from.
    package var bytes: [UInt8]

    package init(
        device: DeviceDescriptor,
        configurations: [ConfigurationDescriptor],
        bytes: [UInt8]
    ) {
        self.device = device
        self.configurations = configurations
        self.bytes = bytes
    }

    /// Whether there is an endpoint with bulk streams, in any setting.
    package var haveStreams: Bool {
        configurations.contains { configuration in
            configuration.interfaces.contains { $0.endpoints.contains { $0.maximumStreams > 0 } }
        }
    }

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

    package init(
        bcdUSB: UInt16,
        bDeviceClass: UInt8,
        bDeviceSubClass: UInt8,
        bDeviceProtocol: UInt8,
        bMaxPacketSize0: UInt8,
        idVendor: UInt16,
        idProduct: UInt16,
        bcdDevice: UInt16,
        iManufacturer: UInt8,
        iProduct: UInt8,
        iSerialNumber: UInt8,
        bNumConfigurations: UInt8
    ) {
        self.bcdUSB = bcdUSB
        self.bDeviceClass = bDeviceClass
        self.bDeviceSubClass = bDeviceSubClass
        self.bDeviceProtocol = bDeviceProtocol
        self.bMaxPacketSize0 = bMaxPacketSize0
        self.idVendor = idVendor
        self.idProduct = idProduct
        self.bcdDevice = bcdDevice
        self.iManufacturer = iManufacturer
        self.iProduct = iProduct
        self.iSerialNumber = iSerialNumber
        self.bNumConfigurations = bNumConfigurations
    }
}

/// USB 2.0, table 9-10, with all that belongs to it.
package struct ConfigurationDescriptor: Sendable, Equatable {
    package var bConfigurationValue: UInt8
    package var iConfiguration: UInt8
    package var bmAttributes: UInt8
    package var bMaxPower: UInt8
    package var interfaces: [InterfaceDescriptor]

    package init(
        bConfigurationValue: UInt8,
        iConfiguration: UInt8,
        bmAttributes: UInt8,
        bMaxPower: UInt8,
        interfaces: [InterfaceDescriptor]
    ) {
        self.bConfigurationValue = bConfigurationValue
        self.iConfiguration = iConfiguration
        self.bmAttributes = bmAttributes
        self.bMaxPower = bMaxPower
        self.interfaces = interfaces
    }

    /// The interfaces at the given alternate settings, which default to 0. Where a device lacks that, its first one
    /// counts as 0, as with Linux.
    package func alternateSettings(_ chosen: [InterfaceNumber: UInt8]) -> [InterfaceDescriptor] {
        var inForce: [InterfaceNumber: UInt8] = [:]
        for setting in interfaces where inForce[setting.bInterfaceNumber] == nil || setting.bAlternateSetting == 0 {
            inForce[setting.bInterfaceNumber] = setting.bAlternateSetting
        }
        inForce.merge(chosen) { $1 }
        return interfaces.filter { $0.bAlternateSetting == inForce[$0.bInterfaceNumber] }
    }

    package func hasSetting(_ interface: InterfaceNumber, alternate: UInt8) -> Bool {
        interfaces.contains { $0.bInterfaceNumber == interface && $0.bAlternateSetting == alternate }
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

    package init(
        bInterfaceNumber: InterfaceNumber,
        bAlternateSetting: UInt8,
        bInterfaceClass: UInt8,
        bInterfaceSubClass: UInt8,
        bInterfaceProtocol: UInt8,
        iInterface: UInt8,
        endpoints: [EndpointDescriptor]
    ) {
        self.bInterfaceNumber = bInterfaceNumber
        self.bAlternateSetting = bAlternateSetting
        self.bInterfaceClass = bInterfaceClass
        self.bInterfaceSubClass = bInterfaceSubClass
        self.bInterfaceProtocol = bInterfaceProtocol
        self.iInterface = iInterface
        self.endpoints = endpoints
    }
}

/// USB 2.0, table 9-13, and its SuperSpeed companion where it has one.
package struct EndpointDescriptor: Sendable, Equatable {
    /// Audio devices of the first version have 9.
    package var bLength: UInt8
    package var bEndpointAddress: EndpointAddress
    package var bmAttributes: UInt8
    package var wMaxPacketSize: UInt16
    package var bInterval: UInt8
    package var companion: EndpointCompanion?

    package init(
        bEndpointAddress: EndpointAddress,
        bmAttributes: UInt8,
        wMaxPacketSize: UInt16,
        bInterval: UInt8,
        companion: EndpointCompanion? = nil,
        bLength: UInt8 = 7
    ) {
        self.bLength = bLength
        self.bEndpointAddress = bEndpointAddress
        self.bmAttributes = bmAttributes
        self.wMaxPacketSize = wMaxPacketSize
        self.bInterval = bInterval
        self.companion = companion
    }

    package var transferType: TransferType { TransferType(rawValue: bmAttributes & 3) ?? .bulk }

    /// Bytes of one packet.
    package var maxPacketSize: Int { Int(wMaxPacketSize & 0x7ff) }

    /// Bulk streams that it can have at once, 2 to 65536; 0 for none (USB 3.2, table 9-26).
    package var maximumStreams: UInt32 {
        let exponent = (companion?.bmAttributes ?? 0) & 0x1f
        return transferType == .bulk && (1...16).contains(exponent) ? 1 << UInt32(exponent) : 0
    }

    /// Bytes of one service interval: isochronous and interrupt endpoints may send several packets in it.
    package var maxBytesPerInterval: Int {
        guard transferType == .isochronous || transferType == .interrupt else { return maxPacketSize }
        if let companion {
            return max(Int(companion.dwBytesPerInterval ?? UInt32(companion.wBytesPerInterval)), maxPacketSize)
        }
        return maxPacketSize * (Int((wMaxPacketSize >> 11) & 3) + 1)
    }
}

/// USB 3.2, table 9-27.
package struct EndpointCompanion: Sendable, Equatable {
    package var bMaxBurst: UInt8
    package var bmAttributes: UInt8
    package var wBytesPerInterval: UInt16
    /// Of an isochronous endpoint beyond 48 KiB an interval (USB 3.2, table 9-28); nil without.
    package var dwBytesPerInterval: UInt32?

    package init(
        bMaxBurst: UInt8,
        bmAttributes: UInt8,
        wBytesPerInterval: UInt16,
        dwBytesPerInterval: UInt32? = nil
    ) {
        self.bMaxBurst = bMaxBurst
        self.bmAttributes = bmAttributes
        self.wBytesPerInterval = wBytesPerInterval
        self.dwBytesPerInterval = dwBytesPerInterval
    }
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
