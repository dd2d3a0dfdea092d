// SPDX-License-Identifier: Apache-2.0

/// Parses one configuration with all that belongs to it, in one pass: an interface is open until the next one begins,
/// and what it announced is compared with what came when it is closed.
struct ConfigurationParser {
    /// As Linux, USB_MAXINTERFACES.
    private static let maximumInterfaceCount = 32
    /// As Linux, USB_MAXALTSETTING.
    private static let maximumAlternateCount = 128
    /// 15 IN and 15 OUT.
    private static let maximumEndpointCount = 30

    private let header: DescriptorReader.RawDescriptor
    private let announcedInterfaces: UInt8
    private var configuration: ConfigurationDescriptor
    private var open: OpenInterface?
    /// How many alternate settings each interface has: the keys are the interfaces that are there.
    private var alternateCounts: [InterfaceNumber: Int] = [:]
    private var settings: Set<Setting> = []
    /// Bits by `EndpointAddress.index`.
    private var addressesAtAlternate0: UInt32 = 0

    private struct Setting: Hashable {
        let interface: InterfaceNumber
        let alternate: UInt8
    }

    private struct OpenInterface {
        var descriptor: InterfaceDescriptor
        let offset: Int
        let announcedEndpoints: UInt8
        var addresses: UInt32 = 0
    }

    /// Takes the next configuration, `wTotalLength` bytes, from `reader`.
    static func parse(_ reader: inout DescriptorReader) throws(DescriptorError) -> ConfigurationDescriptor {
        var parser = try ConfigurationParser(try reader.peek())
        let totalLength = Int(try parser.header.word(2))
        guard totalLength >= parser.header.length, var body = reader.split(totalLength) else {
            throw DescriptorError(
                at: parser.header.offset + 2,
                "wTotalLength \(totalLength), not \(parser.header.length) to the \(reader.remaining) that are there"
            )
        }
        _ = try body.next()  // The header, which the parser has already.
        // A single byte at the end is what some real devices have there; Linux and libusb ignore it too.
        while body.remaining > 1 { try parser.take(try body.next()) }
        return try parser.finish()
    }

    private init(_ raw: DescriptorReader.RawDescriptor) throws(DescriptorError) {
        guard raw.type == DescriptorType.configuration else {
            throw DescriptorError(at: raw.offset + 1, "bDescriptorType \(raw.type), not a configuration")
        }
        try raw.require(9, "a configuration")
        header = raw
        announcedInterfaces = try raw.byte(4)
        configuration = ConfigurationDescriptor(
            bConfigurationValue: try raw.byte(5),
            iConfiguration: try raw.byte(6),
            bmAttributes: try raw.byte(7),
            bMaxPower: try raw.byte(8),
            interfaces: []
        )
        guard configuration.bConfigurationValue != 0 else {
            throw DescriptorError(at: raw.offset + 5, "bConfigurationValue 0, which means unconfigured")
        }
        guard announcedInterfaces <= Self.maximumInterfaceCount else {
            throw DescriptorError(at: raw.offset + 4, "bNumInterfaces \(announcedInterfaces), at most 32 can be")
        }
    }

    private mutating func take(_ raw: DescriptorReader.RawDescriptor) throws(DescriptorError) {
        switch raw.type {
        case DescriptorType.interface: try beginInterface(raw)
        case DescriptorType.endpoint: try addEndpoint(raw)
        case DescriptorType.endpointCompanion: try addCompanion(raw)
        case DescriptorType.isochronousEndpointCompanion: try addIsochronousCompanion(raw)
        case DescriptorType.interfaceAssociation: try raw.require(8, "an interface association")
        case DescriptorType.device, DescriptorType.configuration:
            throw DescriptorError(at: raw.offset + 1, "bDescriptorType \(raw.type) inside of a configuration")
        default: break  // Class-specific, vendor's, OTG and so on: the guest's drivers know what they mean.
        }
    }

    private mutating func finish() throws(DescriptorError) -> ConfigurationDescriptor {
        try closeInterface()
        guard alternateCounts.count == Int(announcedInterfaces) else {
            throw DescriptorError(
                at: header.offset + 4,
                "bNumInterfaces \(announcedInterfaces), but there are \(alternateCounts.count)"
            )
        }
        return configuration
    }
}

// MARK: - Interfaces

extension ConfigurationParser {
    private mutating func beginInterface(_ raw: DescriptorReader.RawDescriptor) throws(DescriptorError) {
        try closeInterface()
        try raw.require(9, "an interface")
        let descriptor = InterfaceDescriptor(
            bInterfaceNumber: InterfaceNumber(rawValue: try raw.byte(2)),
            bAlternateSetting: try raw.byte(3),
            bInterfaceClass: try raw.byte(5),
            bInterfaceSubClass: try raw.byte(6),
            bInterfaceProtocol: try raw.byte(7),
            iInterface: try raw.byte(8),
            endpoints: []
        )
        let announced = try raw.byte(4)
        guard announced <= Self.maximumEndpointCount else {
            throw DescriptorError(at: raw.offset + 4, "bNumEndpoints \(announced), at most 30 can be")
        }
        try register(descriptor, at: raw.offset)
        open = OpenInterface(descriptor: descriptor, offset: raw.offset, announcedEndpoints: announced)
    }

    private mutating func register(_ descriptor: InterfaceDescriptor, at offset: Int) throws(DescriptorError) {
        let number = descriptor.bInterfaceNumber
        let alternate = descriptor.bAlternateSetting
        guard settings.insert(Setting(interface: number, alternate: alternate)).inserted else {
            throw DescriptorError(
                at: offset + 2,
                "interface \(number), alternate setting \(alternate) for a second time"
            )
        }
        alternateCounts[number, default: 0] += 1
        guard alternateCounts.count <= Int(announcedInterfaces) else {
            throw DescriptorError(
                at: offset + 2,
                "interface \(number) is one more than bNumInterfaces \(announcedInterfaces)"
            )
        }
        guard alternateCounts[number, default: 0] <= Self.maximumAlternateCount else {
            throw DescriptorError(at: offset + 3, "interface \(number) has more than 128 alternate settings")
        }
    }

    private mutating func closeInterface() throws(DescriptorError) {
        guard let interface = open.take() else { return }
        let count = interface.descriptor.endpoints.count
        guard count == Int(interface.announcedEndpoints) else {
            throw DescriptorError(
                at: interface.offset + 4,
                "bNumEndpoints \(interface.announcedEndpoints), but there are \(count)"
            )
        }
        configuration.interfaces.append(interface.descriptor)
    }
}

// MARK: - Endpoints

extension ConfigurationParser {
    private mutating func addEndpoint(_ raw: DescriptorReader.RawDescriptor) throws(DescriptorError) {
        guard var interface = open.take() else {
            throw DescriptorError(at: raw.offset, "an endpoint before any interface")
        }
        guard interface.descriptor.endpoints.count < Int(interface.announcedEndpoints) else {
            throw DescriptorError(
                at: raw.offset,
                "an endpoint more than bNumEndpoints \(interface.announcedEndpoints)"
            )
        }
        let endpoint = try Self.endpoint(raw)
        let bit = UInt32(1) << UInt32(endpoint.bEndpointAddress.index)
        guard interface.addresses & bit == 0 else {
            throw DescriptorError(at: raw.offset + 2, "endpoint \(endpoint.bEndpointAddress) for a second time")
        }
        interface.addresses |= bit
        if interface.descriptor.bAlternateSetting == 0 {
            guard addressesAtAlternate0 & bit == 0 else {
                throw DescriptorError(at: raw.offset + 2, "endpoint \(endpoint.bEndpointAddress) in two interfaces")
            }
            addressesAtAlternate0 |= bit
        }
        interface.descriptor.endpoints.append(endpoint)
        open = interface
    }

    private static func endpoint(
        _ raw: DescriptorReader.RawDescriptor
    ) throws(DescriptorError) -> EndpointDescriptor {
        try raw.require(7, "an endpoint")
        let address = try raw.byte(2)
        guard address & 0x0f != 0, address & 0x70 == 0 else {
            throw DescriptorError(at: raw.offset + 2, "bEndpointAddress \(address) is no endpoint's")
        }
        let endpoint = EndpointDescriptor(
            bEndpointAddress: EndpointAddress(rawValue: address),
            bmAttributes: try raw.byte(3),
            wMaxPacketSize: try raw.word(4),
            bInterval: try raw.byte(6),
            bLength: try raw.byte(0)
        )
        // Isochronous endpoints have 0 in the setting that uses no bandwidth (USB 2.0, 5.6.3).
        guard endpoint.maxPacketSize > 0 || endpoint.transferType == .isochronous else {
            throw DescriptorError(at: raw.offset + 4, "wMaxPacketSize 0 on a \(endpoint.transferType) endpoint")
        }
        guard endpoint.maxPacketSize <= 1024 else {
            throw DescriptorError(at: raw.offset + 4, "wMaxPacketSize \(endpoint.maxPacketSize), at most 1024 can be")
        }
        let isPeriodic = endpoint.transferType == .isochronous || endpoint.transferType == .interrupt
        guard !isPeriodic || (endpoint.wMaxPacketSize >> 11) & 3 < 3 else {
            throw DescriptorError(at: raw.offset + 4, "wMaxPacketSize says four packets a microframe, three can be")
        }
        return endpoint
    }

    private mutating func addCompanion(_ raw: DescriptorReader.RawDescriptor) throws(DescriptorError) {
        try raw.require(6, "an endpoint companion")
        guard var interface = open.take(), let last = interface.descriptor.endpoints.indices.last else {
            throw DescriptorError(at: raw.offset, "an endpoint companion before any endpoint")
        }
        guard interface.descriptor.endpoints[last].companion == nil else {
            throw DescriptorError(at: raw.offset, "a second companion of one endpoint")
        }
        let companion = EndpointCompanion(
            bMaxBurst: try raw.byte(2),
            bmAttributes: try raw.byte(3),
            wBytesPerInterval: try raw.word(4)
        )
        guard companion.bMaxBurst <= 15 else {
            throw DescriptorError(at: raw.offset + 2, "bMaxBurst \(companion.bMaxBurst), at most 15 can be")
        }
        interface.descriptor.endpoints[last].companion = companion
        open = interface
    }

    /// USB 3.2, table 9-28: behind the companion of a fast isochronous endpoint.
    private mutating func addIsochronousCompanion(
        _ raw: DescriptorReader.RawDescriptor
    ) throws(DescriptorError) {
        try raw.require(8, "an isochronous endpoint companion")
        guard var interface = open.take(), let last = interface.descriptor.endpoints.indices.last,
            interface.descriptor.endpoints[last].companion != nil
        else {
            throw DescriptorError(at: raw.offset, "an isochronous companion without an endpoint companion")
        }
        interface.descriptor.endpoints[last].companion?.dwBytesPerInterval = try raw.doubleWord(4)
        open = interface
    }
}
