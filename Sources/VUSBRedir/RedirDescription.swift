// SPDX-License-Identifier: Apache-2.0

internal import CUSBRedirParser
internal import VUSBCore

/// The interfaces and endpoints that are in force, as `usb_redir_interface_info` and `usb_redir_ep_info` have them: 32
/// rows each, endpoints by `EndpointAddress.index`.
struct RedirDescription: Equatable {
    /// `interface_count`, then number, class, subclass and protocol of each.
    private(set) var interfaceBytes: [UInt8] = []
    /// Type, interval, interface, `max_packet_size` (16 bits) and `max_streams` (32 bits) of each.
    private(set) var endpointBytes: [UInt8] = []

    init(_ device: VirtualDevice) {
        let settings = device.settings
        let interfaces = settings.interfaces(of: device.descriptors)
        let columns: [KeyPath<InterfaceDescriptor, UInt8>] = [
            \.bInterfaceNumber.rawValue, \.bInterfaceClass, \.bInterfaceSubClass, \.bInterfaceProtocol,
        ]
        interfaceBytes = Self.littleEndian(UInt32(interfaces.count))
        for column in columns { interfaceBytes += Self.rows(interfaces.map { $0[keyPath: column] }) }
        setEndpoints(interfaces, device.speed)
    }

    private mutating func setEndpoints(_ interfaces: [InterfaceDescriptor], _ speed: DeviceSpeed) {
        let invalid = UInt8(usb_redir_type_invalid)
        var types = Array(repeating: invalid, count: 32)
        var intervals = Array(repeating: UInt8(0), count: 32)
        var numbers = Array(repeating: UInt8(0), count: 32)
        var sizes = Array(repeating: UInt16(0), count: 32)
        var streams = Array(repeating: UInt32(0), count: 32)
        for index in [0, 16] { types[index] = UInt8(usb_redir_type_control) }
        for interface in interfaces {
            for endpoint in interface.endpoints {
                let index = endpoint.bEndpointAddress.index
                types[index] = endpoint.transferType.rawValue
                intervals[index] = endpoint.redirInterval(speed)
                numbers[index] = interface.bInterfaceNumber.rawValue
                sizes[index] = UInt16(clamping: endpoint.maxBytesPerInterval)
                streams[index] = endpoint.maximumStreams
            }
        }
        endpointBytes = types + intervals + numbers
        for size in sizes { endpointBytes += Self.littleEndian(size) }
        for count in streams { endpointBytes += Self.littleEndian(count) }
    }

    private static func rows(_ values: [UInt8]) -> [UInt8] { values + Array(repeating: 0, count: 32 - values.count) }

    private static func littleEndian<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
        (0..<Value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
}

extension EndpointDescriptor {
    /// In frames, or microframes from high speed on; 0 where there are no intervals. The peer takes 0 for a fault.
    fileprivate func redirInterval(_ speed: DeviceSpeed) -> UInt8 {
        guard transferType == .isochronous || transferType == .interrupt else { return 0 }
        let isExponent = speed == .high || speed.isSuper || transferType == .isochronous
        guard isExponent else { return max(1, bInterval) }
        return UInt8(clamping: 1 << (max(1, min(16, Int(bInterval))) - 1))
    }
}
