// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// An interface of the configuration in force, at its alternate setting.
struct SysfsInterface: Sendable {
    let device: SysfsDevice
    let setting: InterfaceDescriptor

    /// As `1-1:1.0`; a root hub's begins with bus and port 0.
    var name: String {
        let owner = device.isRootHub ? "\(device.busNumber)-0" : device.name
        return "\(owner):\(device.settings.configurationValue).\(setting.bInterfaceNumber.rawValue)"
    }

    /// Seen from /sys.
    var path: String { "\(device.path)/\(name)" }

    /// Whether a driver has it. Nobody's has those of lent devices.
    var isBound: Bool { device.isRootHub }

    var endpoints: [SysfsEndpoint] {
        setting.endpoints.map { SysfsEndpoint(descriptor: $0, speed: device.speed) }
    }

    func endpoint(_ address: EndpointAddress) -> SysfsEndpoint? {
        endpoints.first { $0.descriptor.bEndpointAddress == address }
    }

    var properties: [Uevent.Property] {
        let bound = isBound ? [Uevent.Property("DRIVER", "hub")] : []
        return [.init("DEVTYPE", "usb_interface")] + bound + [
            .init("PRODUCT", device.product),
            .init("TYPE", device.type),
            .init(
                "INTERFACE",
                "\(setting.bInterfaceClass)/\(setting.bInterfaceSubClass)/\(setting.bInterfaceProtocol)"
            ),
            .init("MODALIAS", modalias),
        ]
    }

    /// What modules' aliases are matched with (Documentation/driver-api/usb/writing_usb_driver.rst).
    var modalias: String {
        func field(_ name: String, _ value: some BinaryInteger, _ digits: Int) -> String {
            name + SysfsText.hex(value, digits: digits, uppercase: true)
        }
        let descriptor = device.descriptors.device
        return "usb:"
            + field("v", descriptor.idVendor, 4) + field("p", descriptor.idProduct, 4)
            + field("d", descriptor.bcdDevice, 4)
            + field("dc", descriptor.bDeviceClass, 2) + field("dsc", descriptor.bDeviceSubClass, 2)
            + field("dp", descriptor.bDeviceProtocol, 2)
            + field("ic", setting.bInterfaceClass, 2) + field("isc", setting.bInterfaceSubClass, 2)
            + field("ip", setting.bInterfaceProtocol, 2)
            + field("in", setting.bInterfaceNumber.rawValue, 2)
    }

    /// Nil where the interface hasn't the file.
    func node(_ file: SysfsInterfaceFile) -> SysfsNode? {
        switch file {
        case .uevent: .properties(properties)
        case .subsystem: .link(SysfsDevice.up(from: path) + "bus/usb")
        case .driver: isBound ? .link(SysfsDevice.up(from: path) + "bus/usb/drivers/hub") : nil
        case .bInterfaceNumber: .text(SysfsText.hex(setting.bInterfaceNumber.rawValue, digits: 2))
        case .bAlternateSetting: .text(SysfsText.pad(String(setting.bAlternateSetting)))
        case .bNumEndpoints: .text(SysfsText.hex(setting.endpoints.count, digits: 2))
        case .bInterfaceClass: .text(SysfsText.hex(setting.bInterfaceClass, digits: 2))
        case .bInterfaceSubClass: .text(SysfsText.hex(setting.bInterfaceSubClass, digits: 2))
        case .bInterfaceProtocol: .text(SysfsText.hex(setting.bInterfaceProtocol, digits: 2))
        case .modalias: .text(modalias)
        case .supportsAutosuspend, .authorized: .text("1")
        }
    }
}

/// The files of an interface's directory, by their names.
enum SysfsInterfaceFile: UInt8, CaseIterable {
    case uevent
    case subsystem
    case driver
    case bInterfaceNumber
    case bAlternateSetting
    case bNumEndpoints
    case bInterfaceClass
    case bInterfaceSubClass
    case bInterfaceProtocol
    case modalias
    case supportsAutosuspend
    case authorized

    /// Looked up once: it takes reflection.
    private static let names = allCases.map {
        $0 == .supportsAutosuspend ? "supports_autosuspend" : String(describing: $0)
    }

    var name: String { Self.names[Int(rawValue)] }
}
