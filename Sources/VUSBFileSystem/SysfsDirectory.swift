// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The directories of a guest's sysfs that are always there.
enum SysfsDirectory: UInt8, CaseIterable {
    case top
    case bus
    case usb
    case devices
    case drivers
    case hubDriver
    case usbDriver
    case controllerDriver
    /// What root hubs are in.
    case controller
    case dev
    case char

    /// What it has besides devices and links to them.
    var children: [(name: String, directory: SysfsDirectory)] {
        switch self {
        case .top: [("bus", .bus), ("dev", .dev)]
        case .bus: [("usb", .usb)]
        case .usb: [("devices", .devices), ("drivers", .drivers), ("vusb", .controller)]
        case .drivers: [("hub", .hubDriver), ("usb", .usbDriver), ("vusb", .controllerDriver)]
        case .dev: [("char", .char)]
        case .devices, .hubDriver, .usbDriver, .controllerDriver, .controller, .char: []
        }
    }
}

/// The files of the controller's directory.
enum SysfsControllerFile: UInt8, CaseIterable {
    case uevent
    case subsystem
    case driver

    /// Looked up once: it takes reflection.
    private static let names = allCases.map { String(describing: $0) }

    var name: String { Self.names[Int(rawValue)] }

    /// As a platform device has them.
    var node: SysfsNode {
        switch self {
        case .uevent: .properties([.init("DRIVER", "vusb"), .init("MODALIAS", "platform:vusb")])
        case .subsystem: .link(SysfsDevice.up(from: SysfsDevice.controllerPath) + "bus/platform")
        // lsusb -t shows its name as the driver of the root hubs.
        case .driver: .link(SysfsDevice.up(from: SysfsDevice.controllerPath) + "bus/usb/drivers/vusb")
        }
    }
}
