// SPDX-License-Identifier: Apache-2.0

/// What a device of USB 2.1 and later can do besides (USB 3.2, 9.6.2).
package struct BOSDescriptor: Sendable, Equatable {
    package var capabilities: [DeviceCapability]

    package init(capabilities: [DeviceCapability]) { self.capabilities = capabilities }

    /// Parses a BOS descriptor with all that belongs to it. Bytes behind `wTotalLength` aren't looked at.
    /// - Throws: with the offset of the byte that can't be right.
    package init(parsing bytes: [UInt8]) throws(DescriptorError) {
        guard bytes.count <= Descriptors.maximumByteCount else {
            throw DescriptorError(at: Descriptors.maximumByteCount, "\(bytes.count) bytes of BOS are too many")
        }
        var whole = DescriptorReader(bytes)
        let header = try whole.peek()
        guard header.type == DescriptorType.bos else {
            throw DescriptorError(at: 1, "bDescriptorType \(header.type), not a BOS descriptor")
        }
        try header.require(5, "a BOS descriptor")
        let totalLength = Int(try header.word(2))
        let announced = Int(try header.byte(4))
        guard totalLength >= header.length, var reader = whole.split(totalLength) else {
            throw DescriptorError(
                at: 2,
                "wTotalLength \(totalLength), not \(header.length) to the \(bytes.count) that are there"
            )
        }
        _ = try reader.next()  // The header.
        var capabilities: [DeviceCapability] = []
        while reader.remaining > 0 { capabilities.append(try DeviceCapability(parsing: try reader.next())) }
        guard capabilities.count == announced else {
            throw DescriptorError(at: 4, "bNumDeviceCaps \(announced), but there are \(capabilities.count)")
        }
        self.init(capabilities: capabilities)
    }
}

/// One device capability (USB 3.2, table 9-14).
package enum DeviceCapability: Sendable, Equatable {
    /// `bmAttributes`: bit 1 is link power management.
    case usb2Extension(UInt32)
    case superSpeed(SuperSpeedCapability)
    /// As it came: its form differs between USB 3.1 and 3.2.
    case superSpeedPlus([UInt8])
    /// A UUID that all of a device's functions share.
    case containerID([UInt8])
    case platform(uuid: [UInt8], data: [UInt8])
    /// `bytes` is the whole descriptor.
    case unknown(type: UInt8, bytes: [UInt8])

    fileprivate init(parsing raw: DescriptorReader.RawDescriptor) throws(DescriptorError) {
        guard raw.type == DescriptorType.deviceCapability else {
            throw DescriptorError(at: raw.offset + 1, "bDescriptorType \(raw.type), not a device capability")
        }
        let type = try raw.byte(2)
        switch type {
        case 0x02:
            try raw.require(7, "a USB 2.0 extension")
            self = .usb2Extension(try raw.doubleWord(3))
        case 0x03:
            try raw.require(10, "a SuperSpeed capability")
            self = .superSpeed(
                SuperSpeedCapability(
                    bmAttributes: try raw.byte(3),
                    wSpeedsSupported: try raw.word(4),
                    bFunctionalitySupport: try raw.byte(6),
                    bU1DevExitLat: try raw.byte(7),
                    wU2DevExitLat: try raw.word(8)
                )
            )
        case 0x04:
            try raw.require(20, "a container id")
            self = .containerID(Array(raw.rest(from: 4).prefix(16)))
        case 0x05:
            try raw.require(20, "a platform capability")
            self = .platform(uuid: Array(raw.rest(from: 4).prefix(16)), data: raw.rest(from: 20))
        case 0x0a:
            try raw.require(12, "a SuperSpeedPlus capability")
            self = .superSpeedPlus(raw.rest(from: 0))
        default:
            self = .unknown(type: type, bytes: raw.rest(from: 0))
        }
    }
}

/// USB 3.2, table 9-16.
package struct SuperSpeedCapability: Sendable, Equatable {
    package var bmAttributes: UInt8
    /// Bit 0 low, 1 full, 2 high, 3 super.
    package var wSpeedsSupported: UInt16
    package var bFunctionalitySupport: UInt8
    /// Microseconds.
    package var bU1DevExitLat: UInt8
    /// Microseconds.
    package var wU2DevExitLat: UInt16

    package init(
        bmAttributes: UInt8,
        wSpeedsSupported: UInt16,
        bFunctionalitySupport: UInt8,
        bU1DevExitLat: UInt8,
        wU2DevExitLat: UInt16
    ) {
        self.bmAttributes = bmAttributes
        self.wSpeedsSupported = wSpeedsSupported
        self.bFunctionalitySupport = bFunctionalitySupport
        self.bU1DevExitLat = bU1DevExitLat
        self.wU2DevExitLat = wU2DevExitLat
    }
}
