// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The files of an endpoint's directory, by their names.
enum SysfsEndpointFile: UInt8, CaseIterable {
    case uevent
    case bEndpointAddress
    case bLength
    case bInterval
    case bmAttributes
    case direction
    case interval
    case type
    case wMaxPacketSize

    /// Looked up once: it takes reflection.
    private static let names = allCases.map { String(describing: $0) }

    var name: String { Self.names[Int(rawValue)] }
}

/// An endpoint of the settings in force. Formats are those of drivers/usb/core/endpoint.c.
struct SysfsEndpoint: Sendable {
    let descriptor: EndpointDescriptor
    let speed: DeviceSpeed

    var name: String { "ep_" + descriptor.bEndpointAddress.name }

    func node(_ file: SysfsEndpointFile) -> SysfsNode {
        switch file {
        // Endpoints are of no subsystem, and nothing is said of them.
        case .uevent: .file([])
        case .bEndpointAddress: .text(descriptor.bEndpointAddress.name)
        case .bLength: .text(SysfsText.hex(descriptor.bLength, digits: 2))
        case .bInterval: .text(SysfsText.hex(descriptor.bInterval, digits: 2))
        case .bmAttributes: .text(SysfsText.hex(descriptor.bmAttributes, digits: 2))
        case .direction: .text(direction)
        case .interval: .text(interval)
        case .type: .text(type)
        case .wMaxPacketSize: .text(SysfsText.hex(descriptor.wMaxPacketSize & 0x7ff, digits: 4))
        }
    }

    private var direction: String {
        guard descriptor.transferType != .control else { return "both" }
        return descriptor.bEndpointAddress.direction == .in ? "in" : "out"
    }

    private var type: String {
        switch descriptor.transferType {
        case .control: "Control"
        case .isochronous: "Isoc"
        case .bulk: "Bulk"
        case .interrupt: "Interrupt"
        }
    }

    /// In ms where that's whole, else in us.
    private var interval: String {
        let isFast = speed == .high || speed.isSuper
        let microseconds = intervals * (isFast ? 125 : 1000)
        return microseconds % 1000 == 0 ? "\(microseconds / 1000)ms" : "\(microseconds)us"
    }

    /// The service interval in frames or microframes (USB 2.0, table 9-13); of control and bulk OUT endpoints at high
    /// speed, how often they say NAK at most.
    private var intervals: Int {
        let value = Int(descriptor.bInterval)
        let power = 1 << min(max(value, 1) - 1, 15)
        switch descriptor.transferType {
        case .isochronous: return power
        case .interrupt: return speed == .high || speed.isSuper ? power : value
        case .control: return speed == .high ? value : 0
        case .bulk: return speed == .high && descriptor.bEndpointAddress.direction == .out ? value : 0
        }
    }
}
