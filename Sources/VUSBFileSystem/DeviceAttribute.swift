// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The attribute files of a device, named and formatted as in sysfs (Documentation/ABI/testing/sysfs-bus-usb,
/// drivers/usb/core/sysfs.c). `state` and `guest` are the host's view only, `dev` the guest's.
enum DeviceAttribute: UInt8, CaseIterable {
    case idVendor
    case idProduct
    case bcdDevice
    case bDeviceClass
    case bDeviceSubClass
    case bDeviceProtocol
    case bMaxPacketSize0
    case bNumConfigurations
    case bConfigurationValue
    case bNumInterfaces
    case bmAttributes
    case bMaxPower
    case version
    case speed
    case manufacturer
    case product
    case serial
    case busnum
    case devnum
    case dev
    case descriptors
    case state
    case guest

    /// Looked up once: it takes reflection.
    private static let names = allCases.map { String(describing: $0) }

    var name: String { Self.names[Int(rawValue)] }

    init?(name: some StringProtocol) {
        guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = match
    }
}

/// What the attributes of one device are made of.
struct DeviceView: Sendable {
    var record: DeviceRecord
    var configurationValue: UInt8?
    var busNumber: Int?
    var deviceNumber: Int?
    var major: Int?
    var minor: Int?
    var state: String?
    var guest: String?

    /// Nil where the device hasn't the attribute; sysfs has no file then, and neither have we.
    func bytes(of attribute: DeviceAttribute) -> [UInt8]? {
        if attribute == .descriptors { return record.descriptors.bytes }
        return text(of: attribute).map { $0.isEmpty ? [] : Array(($0 + "\n").utf8) }
    }

    private func text(of attribute: DeviceAttribute) -> String? {
        let device = record.descriptors.device
        return switch attribute {
        case .idVendor: SysfsText.hex(device.idVendor, digits: 4)
        case .idProduct: SysfsText.hex(device.idProduct, digits: 4)
        case .bcdDevice: SysfsText.hex(device.bcdDevice, digits: 4)
        case .bDeviceClass: SysfsText.hex(device.bDeviceClass, digits: 2)
        case .bDeviceSubClass: SysfsText.hex(device.bDeviceSubClass, digits: 2)
        case .bDeviceProtocol: SysfsText.hex(device.bDeviceProtocol, digits: 2)
        case .bMaxPacketSize0: String(device.bMaxPacketSize0)
        case .bNumConfigurations: String(device.bNumConfigurations)
        case .version:
            SysfsText.pad(String(device.bcdUSB >> 8, radix: 16)) + "." + SysfsText.hex(device.bcdUSB & 0xff, digits: 2)
        case .speed: record.speed.sysfsName
        case .manufacturer: record.manufacturer
        case .product: record.product
        case .serial: record.serial
        case .busnum: busNumber.map { String($0) }
        case .devnum: deviceNumber.map { String($0) }
        case .dev: major.flatMap { major in minor.map { "\(major):\($0)" } }
        case .state: state
        case .guest: guest
        case .bConfigurationValue, .bNumInterfaces, .bmAttributes, .bMaxPower: configurationText(of: attribute)
        case .descriptors: nil
        }
    }

    /// Attributes of the configuration in force; empty files while there is none, as in sysfs.
    private func configurationText(of attribute: DeviceAttribute) -> String? {
        guard let configurationValue else { return nil }
        guard let configuration = record.descriptors.configuration(value: configurationValue) else { return "" }
        return switch attribute {
        case .bConfigurationValue: String(configuration.bConfigurationValue)
        case .bNumInterfaces: SysfsText.pad(String(Set(configuration.interfaces.map(\.bInterfaceNumber)).count))
        case .bmAttributes: SysfsText.pad(String(configuration.bmAttributes, radix: 16))
        case .bMaxPower: "\(Int(configuration.bMaxPower) * (record.speed.isSuper ? 8 : 2))mA"
        default: nil
        }
    }
}
