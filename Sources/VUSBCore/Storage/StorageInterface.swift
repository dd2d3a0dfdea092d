// SPDX-License-Identifier: Apache-2.0

/// An alternate setting that is a mass-storage function whose transport can be followed.
struct StorageInterface: Sendable, Equatable {
    enum Transport: Sendable, Equatable {
        /// Protocol 50h.
        case bulkOnly(out: EndpointAddress, in: EndpointAddress)
        /// Protocol 62h: UAS.
        case attachedSCSI(AttachedSCSIPipes)
    }

    let configuration: UInt8
    let number: InterfaceNumber
    let alternate: UInt8
    let transport: Transport

    /// All that a device has, in any configuration.
    static func all(in descriptors: Descriptors) -> [StorageInterface] {
        var pipes: [AttachedSCSIPipes.Owner: AttachedSCSIPipes]?
        var found: [StorageInterface] = []
        for configuration in descriptors.configurations {
            for setting in configuration.interfaces where setting.bInterfaceClass == 0x08 {
                let owner = AttachedSCSIPipes.Owner(
                    configuration: configuration.bConfigurationValue,
                    interface: setting.bInterfaceNumber.rawValue,
                    alternate: setting.bAlternateSetting
                )
                // Looked for once, and only where there is mass storage.
                if pipes == nil { pipes = AttachedSCSIPipes.all(in: descriptors.bytes) }
                guard let transport = transport(setting, pipes?[owner]) else { continue }
                found.append(
                    StorageInterface(
                        configuration: configuration.bConfigurationValue,
                        number: setting.bInterfaceNumber,
                        alternate: setting.bAlternateSetting,
                        transport: transport
                    )
                )
            }
        }
        return found
    }

    private static func transport(_ setting: InterfaceDescriptor, _ pipes: AttachedSCSIPipes?) -> Transport? {
        switch setting.bInterfaceProtocol {
        case 0x50:
            let bulk = setting.endpoints.filter { $0.transferType == .bulk }.map(\.bEndpointAddress)
            guard let out = bulk.first(where: { $0.direction == .out }),
                let input = bulk.first(where: { $0.direction == .in })
            else { return nil }
            return .bulkOnly(out: out, in: input)
        // Without all four, a driver can't use it either.
        case 0x62: return pipes.map { .attachedSCSI($0) }
        default: return nil
        }
    }
}

/// The pipes of UAS, as the pipe usage descriptors behind the endpoints say. `Descriptors` keeps no class-specific
/// descriptors, so they are looked for in the bytes that it was parsed from.
struct AttachedSCSIPipes: Sendable, Equatable {
    struct Owner: Hashable {
        let configuration: UInt8
        let interface: UInt8
        let alternate: UInt8
    }

    let command: EndpointAddress
    let status: EndpointAddress
    let dataIn: EndpointAddress
    let dataOut: EndpointAddress

    /// - Parameter endpoints: by pipe ID, 1 to 4.
    private init?(_ endpoints: [UInt8: EndpointAddress]) {
        guard let command = endpoints[1], let status = endpoints[2], let dataIn = endpoints[3],
            let dataOut = endpoints[4], command.direction == .out, status.direction == .in,
            dataIn.direction == .in, dataOut.direction == .out, command != dataOut, status != dataIn
        else { return nil }
        self.command = command
        self.status = status
        self.dataIn = dataIn
        self.dataOut = dataOut
    }

    /// The bytes were parsed once and are what descriptors should be; where they aren't, it ends with what it has.
    static func all(in bytes: [UInt8]) -> [Owner: AttachedSCSIPipes] {
        var endpoints: [Owner: [UInt8: EndpointAddress]] = [:]
        var reader = DescriptorReader(bytes)
        do {
            _ = try reader.next()  // The device's own.
            while reader.remaining > 0 {
                let header = try reader.peek()
                let value = try header.byte(5)
                guard var body = reader.split(Int(try header.word(2))) else { break }
                try collect(&body, configuration: value, &endpoints)
            }
        } catch {
            // Descriptors that nobody parsed before: only tests and fuzzers make such.
        }
        return endpoints.compactMapValues { AttachedSCSIPipes($0) }
    }

    private static func collect(
        _ body: inout DescriptorReader,
        configuration: UInt8,
        _ endpoints: inout [Owner: [UInt8: EndpointAddress]]
    ) throws(DescriptorError) {
        var owner: Owner?
        var address: EndpointAddress?
        while body.remaining > 1 {
            let raw = try body.next()
            switch raw.type {
            case DescriptorType.interface:
                let number = try raw.byte(2)
                owner = Owner(configuration: configuration, interface: number, alternate: try raw.byte(3))
                address = nil
            case DescriptorType.endpoint: address = EndpointAddress(rawValue: try raw.byte(2))
            case DescriptorType.classSpecificInterface where raw.length >= 3:
                if let owner, let address { endpoints[owner, default: [:]][try raw.byte(2)] = address }
            default: break
            }
        }
    }
}
