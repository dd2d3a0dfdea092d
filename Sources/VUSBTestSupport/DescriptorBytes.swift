// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// Puts descriptors together byte by byte, true ones and lying ones: what is announced can be overridden.
package enum DescriptorBytes {
    package static func device(
        bcdUSB: UInt16 = 0x0200,
        deviceClass: UInt8 = 0,
        maxPacketSize0: UInt8 = 64,
        vendor: UInt16 = 0x0525,
        product: UInt16 = 0xa4a0,
        configurations: UInt8 = 1
    ) -> [UInt8] {
        [18, DescriptorType.device] + word(bcdUSB) + [deviceClass, 0, 0, maxPacketSize0] + word(vendor)
            + word(product) + word(0x0100) + [0, 0, 0, configurations]
    }

    /// - Parameters:
    ///   - parts: all that follows the header, in order.
    ///   - interfaces: `bNumInterfaces`; counted where it isn't given.
    ///   - totalLength: `wTotalLength`; summed where it isn't given.
    package static func configuration(
        _ parts: [[UInt8]],
        value: UInt8 = 1,
        interfaces: UInt8? = nil,
        totalLength: UInt16? = nil
    ) -> [UInt8] {
        let body = parts.flatMap(\.self)
        return [9, DescriptorType.configuration] + word(totalLength ?? UInt16(9 + body.count))
            + [interfaces ?? interfaceCount(body), value, 0, 0x80, 50] + body
    }

    /// - Parameter endpoints: `bNumEndpoints`.
    package static func interface(
        _ number: UInt8,
        alternate: UInt8 = 0,
        endpoints: UInt8,
        class interfaceClass: UInt8 = 0xff,
        subclass: UInt8 = 0,
        protocol interfaceProtocol: UInt8 = 0
    ) -> [UInt8] {
        [9, DescriptorType.interface, number, alternate, endpoints, interfaceClass, subclass, interfaceProtocol, 0]
    }

    package static func endpoint(
        _ address: UInt8,
        _ type: TransferType = .bulk,
        maxPacketSize: UInt16 = 512,
        interval: UInt8 = 0
    ) -> [UInt8] {
        [7, DescriptorType.endpoint, address, type.rawValue] + word(maxPacketSize) + [interval]
    }

    package static func companion(burst: UInt8 = 0, attributes: UInt8 = 0, bytesPerInterval: UInt16 = 0) -> [UInt8] {
        [6, DescriptorType.endpointCompanion, burst, attributes] + word(bytesPerInterval)
    }

    package static func word(_ value: UInt16) -> [UInt8] { [UInt8(truncatingIfNeeded: value), UInt8(value >> 8)] }

    private static func interfaceCount(_ body: [UInt8]) -> UInt8 {
        var numbers: Set<UInt8> = []
        var offset = 0
        while offset + 2 < body.count, body[offset] >= 3 {
            if body[offset + 1] == DescriptorType.interface { numbers.insert(body[offset + 2]) }
            offset += Int(body[offset])
        }
        return UInt8(numbers.count)
    }
}

/// Whole devices for tests.
package enum SampleDevice {
    /// A Gadget Zero at high speed: interface 0 with alternate setting 0 (bulk 0x81 and 0x02), 1 (an isochronous pair
    /// besides, 0x83 and 0x04) and 2 (an interrupt pair besides, 0x85 and 0x06).
    package static let zeroBytes =
        DescriptorBytes.device()
        + DescriptorBytes.configuration([
            DescriptorBytes.interface(0, endpoints: 2),
            DescriptorBytes.endpoint(0x81), DescriptorBytes.endpoint(0x02),
            DescriptorBytes.interface(0, alternate: 1, endpoints: 4),
            DescriptorBytes.endpoint(0x81), DescriptorBytes.endpoint(0x02),
            DescriptorBytes.endpoint(0x83, .isochronous, maxPacketSize: 1024, interval: 1),
            DescriptorBytes.endpoint(0x04, .isochronous, maxPacketSize: 1024, interval: 1),
            DescriptorBytes.interface(0, alternate: 2, endpoints: 4),
            DescriptorBytes.endpoint(0x81), DescriptorBytes.endpoint(0x02),
            DescriptorBytes.endpoint(0x85, .interrupt, maxPacketSize: 64, interval: 4),
            DescriptorBytes.endpoint(0x06, .interrupt, maxPacketSize: 64, interval: 4),
        ])

    /// A boot keyboard at low speed, with its input at 0x81.
    package static let keyboardBytes =
        DescriptorBytes.device(maxPacketSize0: 8, product: 0xa4ac)
        + DescriptorBytes.configuration([
            DescriptorBytes.interface(0, endpoints: 1, class: 3, subclass: 1, protocol: 1),
            DescriptorBytes.endpoint(0x81, .interrupt, maxPacketSize: 8, interval: 10),
        ])

    package static func zero() throws(DescriptorError) -> Descriptors { try Descriptors(parsing: zeroBytes) }

    /// A `VirtualDevice` over `backend` that is configured as Linux leaves a device: the first configuration, all
    /// interfaces at alternate setting 0.
    package static func attach(
        _ backend: any USBBackend,
        descriptors: Descriptors,
        speed: DeviceSpeed = .high,
        pool: BufferPool = BufferPool(),
        lane: BusLane? = nil,
        keyboard: KeyboardFilter? = nil,
        health: DeviceHealth? = nil
    ) -> VirtualDevice {
        VirtualDevice(
            backend: backend,
            descriptors: descriptors,
            speed: speed,
            configurationValue: descriptors.configurations.first?.bConfigurationValue ?? 0,
            pool: pool,
            lane: lane,
            keyboard: keyboard,
            health: health,
            // A machine that is busy with other tests isn't a device that hangs.
            closeLimit: .seconds(60)
        )
    }
}
