// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The files of a device's directory, by their names.
enum SysfsDeviceFile: UInt8, CaseIterable {
    case uevent
    case subsystem
    case driver
    case busnum
    case devnum
    case devpath
    case dev
    case speed
    case version
    case descriptors
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
    case configuration
    case manufacturer
    case product
    case serial
    case maxchild
    case urbnum
    case removable
    case authorized
    case avoidResetQuirk
    case ltmCapable
    case quirks
    case rxLanes
    case txLanes
    case authorizedDefault
    case interfaceAuthorizedDefault

    /// Looked up once: it takes reflection.
    private static let names = allCases.map(\.spelling)
    private static let attributes = allCases.map { DeviceAttribute(name: $0.spelling) }

    var name: String { Self.names[Int(rawValue)] }
    /// What has the same content in `/vusb/devices`; nil where there is none such.
    var attribute: DeviceAttribute? { Self.attributes[Int(rawValue)] }

    private var spelling: String {
        switch self {
        case .avoidResetQuirk: "avoid_reset_quirk"
        case .ltmCapable: "ltm_capable"
        case .rxLanes: "rx_lanes"
        case .txLanes: "tx_lanes"
        case .authorizedDefault: "authorized_default"
        case .interfaceAuthorizedDefault: "interface_authorized_default"
        default: String(describing: self)
        }
    }
}

extension SysfsDevice {
    /// Nil where the device hasn't the file.
    func node(_ file: SysfsDeviceFile) -> SysfsNode? {
        switch file {
        case .uevent: .properties(properties)
        case .subsystem: .link(Self.up(from: path) + "bus/usb")
        case .driver: .link(Self.up(from: path) + "bus/usb/drivers/usb")
        case .devpath: .text(isRootHub ? "0" : String(name.drop { $0 != "-" }.dropFirst()))
        case .descriptors: .file(descriptors.bytes, isBinary: true)
        // Without a string: an empty file.
        case .configuration: .file([])
        case .maxchild: .text(String(isRootHub ? Self.ports : 0))
        case .urbnum: .text(String(urbs))
        case .removable: .text(isRootHub ? "unknown" : "removable")
        case .authorized: .text("1")
        case .avoidResetQuirk: .text("0")
        case .ltmCapable: .text("no")
        case .authorizedDefault, .interfaceAuthorizedDefault: isRootHub ? .text("1") : nil
        case .quirks: .text("0x0")
        case .rxLanes, .txLanes: .text("1")
        case .busnum, .devnum, .dev, .speed, .version, .idVendor, .idProduct, .bcdDevice, .bDeviceClass,
            .bDeviceSubClass, .bDeviceProtocol, .bMaxPacketSize0, .bNumConfigurations, .bConfigurationValue,
            .bNumInterfaces, .bmAttributes, .bMaxPower, .manufacturer, .product, .serial:
            file.attribute.flatMap { view.bytes(of: $0) }.map { .file($0) }
        }
    }

    /// From a directory to /sys, as links begin.
    static func up(from path: String) -> String {
        String(repeating: "../", count: path.split(separator: "/").count)
    }
}
