// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A device or a root hub as the guest's sysfs shows it, at one moment. Formats are those of drivers/usb/core/sysfs.c;
/// SysfsView.md says which files there are.
struct SysfsDevice: Sendable {
    /// Where host controllers and, below them, devices are, seen from /sys.
    static let controllerPath = "bus/usb/vusb"
    /// Ports of a root hub: numbers 2 to 127 are for devices.
    static let ports = 126

    let view: DeviceView
    let speed: DeviceSpeed
    let settings: ActiveSettings
    let busNumber: Int
    let deviceNumber: Int
    /// `1-1`, or `usb1`.
    let name: String
    let isRootHub: Bool
    let urbs: UInt64

    init(_ attachment: NodeTree.Attachment, nodes: CharacterNodes) {
        let entry = attachment.entry
        let counters = entry.device.counters
        view = attachment.view(nodes: nodes)
        speed = entry.record.speed
        settings = entry.device.settings
        busNumber = entry.busNumber
        deviceNumber = entry.deviceNumber
        name = entry.path
        isRootHub = false
        urbs = counters.completedURBs + UInt64(entry.device.inFlight)
    }

    init(rootHubOf bus: Int, guest: String) {
        let record = RootHub.record(guest: guest)
        view = DeviceView(
            record: record, configurationValue: RootHub.configurationValue, busNumber: bus,
            deviceNumber: RootHub.deviceNumber
        )
        speed = record.speed
        settings = RootHub.settings
        busNumber = bus
        deviceNumber = RootHub.deviceNumber
        name = "usb\(bus)"
        isRootHub = true
        urbs = 0
    }

    var descriptors: Descriptors { view.record.descriptors }

    /// Seen from /sys.
    var path: String {
        let hub = "\(Self.controllerPath)/usb\(busNumber)"
        return isRootHub ? hub : "\(hub)/\(name)"
    }

    /// Its interfaces as they are, in the order of their numbers; none while it isn't configured.
    var interfaces: [SysfsInterface] {
        guard let configuration = descriptors.configuration(value: settings.configurationValue) else { return [] }
        return configuration.alternateSettings(settings.alternates)
            .sorted { $0.bInterfaceNumber.rawValue < $1.bInterfaceNumber.rawValue }
            .map { SysfsInterface(device: self, setting: $0) }
    }

    func interface(_ number: InterfaceNumber) -> SysfsInterface? {
        interfaces.first { $0.setting.bInterfaceNumber == number }
    }

    /// Endpoint 0 has no descriptor of its own.
    var controlEndpoint: SysfsEndpoint {
        let bytes = descriptors.device.bMaxPacketSize0
        return SysfsEndpoint(
            descriptor: EndpointDescriptor(
                bEndpointAddress: .control,
                bmAttributes: 0,
                // At SuperSpeed it's an exponent (USB 3.2, table 9-11).
                wMaxPacketSize: speed.isSuper ? 1 << UInt16(min(bytes, 15)) : UInt16(bytes),
                bInterval: 0
            ),
            speed: speed
        )
    }

    /// The lines of `uevent`, and what a message about the device says.
    var properties: [Uevent.Property] {
        var properties: [Uevent.Property] = []
        if let major = view.major, let minor = view.minor {
            properties += [.init("MAJOR", String(major)), .init("MINOR", String(minor))]
        }
        return properties + [
            .init("DEVNAME", "bus/usb/\(SysfsText.threeDigits(busNumber))/\(SysfsText.threeDigits(deviceNumber))"),
            .init("DEVTYPE", "usb_device"),
            .init("DRIVER", "usb"),
            .init("PRODUCT", product),
            .init("TYPE", type),
            .init("BUSNUM", SysfsText.threeDigits(busNumber)),
            .init("DEVNUM", SysfsText.threeDigits(deviceNumber)),
        ]
    }

    /// Vendor, product and release, hexadecimal without leading zeros, as the kernel has it in `uevent`.
    var product: String {
        let device = descriptors.device
        return [device.idVendor, device.idProduct, device.bcdDevice].map { String($0, radix: 16) }
            .joined(separator: "/")
    }

    var type: String {
        let device = descriptors.device
        return "\(device.bDeviceClass)/\(device.bDeviceSubClass)/\(device.bDeviceProtocol)"
    }
}

/// How sysfs writes numbers.
enum SysfsText {
    /// As buses and devices in /dev/bus/usb.
    static func threeDigits(_ number: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, 3 - text.count)) + text
    }

    static func hex(_ value: some BinaryInteger, digits: Int, uppercase: Bool = false) -> String {
        let text = String(value, radix: 16, uppercase: uppercase)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }

    static func pad(_ text: String) -> String { text.count < 2 ? " " + text : text }
}

/// What a name in the guest's sysfs stands for.
enum SysfsNode: Sendable, Equatable {
    case directory
    /// `isBinary`: its size is that of its content, not a page.
    case file([UInt8], isBinary: Bool = false)
    /// Where it leads, as a relative path.
    case link(String)

    static func text(_ text: String) -> SysfsNode { .file(Array((text + "\n").utf8)) }

    static func properties(_ properties: [Uevent.Property]) -> SysfsNode {
        .file(Array(properties.map { "\($0.key)=\($0.value)\n" }.joined().utf8))
    }
}
