// SPDX-License-Identifier: Apache-2.0

extension Descriptors {
    /// More than any device has; sysfs would show less.
    package static let maximumByteCount = 64 << 10
    /// As Linux, USB_MAXCONFIG.
    package static let maximumConfigurationCount = 8

    /// Parses a device descriptor and, right behind it, the whole data of each configuration: what sysfs has in
    /// `descriptors`.
    ///
    /// Devices lie, and libraries further on hang or crash on what some of them say; so what contradicts itself is
    /// refused. What is merely unknown (class-specific and vendor descriptors) is passed over.
    /// - Throws: with the offset of the byte that can't be right.
    package init(parsing bytes: [UInt8]) throws(DescriptorError) {
        guard bytes.count <= Self.maximumByteCount else {
            throw DescriptorError(at: Self.maximumByteCount, "\(bytes.count) bytes of descriptors are too many")
        }
        var reader = DescriptorReader(bytes)
        let device = try DeviceDescriptor(parsing: try reader.next())
        var configurations: [ConfigurationDescriptor] = []
        while reader.remaining > 0 {
            guard configurations.count < Int(device.bNumConfigurations) else {
                throw DescriptorError(
                    at: reader.offset,
                    "\(reader.remaining) bytes behind the last of \(device.bNumConfigurations) configurations"
                )
            }
            let start = reader.offset
            let configuration = try ConfigurationParser.parse(&reader)
            let value = configuration.bConfigurationValue
            guard !configurations.contains(where: { $0.bConfigurationValue == value }) else {
                throw DescriptorError(at: start + 5, "bConfigurationValue \(value) for a second time")
            }
            configurations.append(configuration)
        }
        guard configurations.count == Int(device.bNumConfigurations) else {
            throw DescriptorError(
                at: 17,
                "bNumConfigurations \(device.bNumConfigurations), but there are \(configurations.count)"
            )
        }
        self.init(device: device, configurations: configurations, bytes: bytes)
    }
}

extension DeviceDescriptor {
    package static let byteCount = 18

    /// - Throws: where it isn't a device descriptor that can be.
    package init(parsing raw: DescriptorReader.RawDescriptor) throws(DescriptorError) {
        guard raw.type == DescriptorType.device else {
            throw DescriptorError(at: raw.offset + 1, "bDescriptorType \(raw.type), not a device descriptor")
        }
        guard raw.length == Self.byteCount else {
            throw DescriptorError(at: raw.offset, "bLength \(raw.length), but a device descriptor has 18 bytes")
        }
        self.init(
            bcdUSB: try raw.word(2),
            bDeviceClass: try raw.byte(4),
            bDeviceSubClass: try raw.byte(5),
            bDeviceProtocol: try raw.byte(6),
            bMaxPacketSize0: try raw.byte(7),
            idVendor: try raw.word(8),
            idProduct: try raw.word(10),
            bcdDevice: try raw.word(12),
            iManufacturer: try raw.byte(14),
            iProduct: try raw.byte(15),
            iSerialNumber: try raw.byte(16),
            bNumConfigurations: try raw.byte(17)
        )
        guard [8, 9, 16, 32, 64].contains(bMaxPacketSize0) else {
            // 9 is an exponent: 512 bytes, at SuperSpeed.
            throw DescriptorError(at: raw.offset + 7, "bMaxPacketSize0 \(bMaxPacketSize0) doesn't exist")
        }
        guard (1...Descriptors.maximumConfigurationCount).contains(Int(bNumConfigurations)) else {
            throw DescriptorError(at: raw.offset + 17, "bNumConfigurations \(bNumConfigurations), not 1 to 8")
        }
    }
}
