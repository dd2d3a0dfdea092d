// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// What sysfs says of a device's state now, beyond its descriptors.
struct SysfsDevice {
    struct Interface: Equatable {
        let number: UInt8
        /// The kernel's driver that has it.
        let driver: String?
        let alternate: UInt8
        let directory: String
    }

    let id: DeviceID
    private let directory: String

    init(_ id: DeviceID, root: String) {
        self.id = id
        directory = root + "/" + id.rawValue
    }

    var exists: Bool { HostFiles.exists(directory) }
    var busNumber: Int? { HostFiles.number(directory + "/busnum") }
    var deviceNumber: Int? { HostFiles.number(directory + "/devnum") }

    /// 0 while unconfigured: the attribute is empty then.
    var configurationValue: UInt8 {
        HostFiles.number(directory + "/bConfigurationValue").flatMap { UInt8(exactly: $0) } ?? 0
    }

    /// The driver of the device as a whole: `usb`, unless somebody else has it (`usbip-host`); nil where it has none.
    var driver: String? { HostFiles.linkName(directory + "/driver") }

    /// The interfaces of the configuration in force, in the order of their numbers.
    var interfaces: [Interface] {
        let prefix = id.rawValue + ":"
        let names = (HostFiles.list(directory) ?? []).filter { $0.hasPrefix(prefix) }
        return names.compactMap { name in
            let directory = directory + "/" + name
            guard let number = Self.hexadecimal(directory + "/bInterfaceNumber") else { return nil }
            let alternate = HostFiles.number(directory + "/bAlternateSetting").flatMap { UInt8(exactly: $0) }
            return Interface(
                number: number,
                driver: HostFiles.linkName(directory + "/driver"),
                alternate: alternate ?? 0,
                directory: directory
            )
        }.sorted { $0.number < $1.number }
    }

    private static func hexadecimal(_ path: String) -> UInt8? {
        HostFiles.text(path, limit: 16).flatMap { UInt8($0, radix: 16) }
    }
}
