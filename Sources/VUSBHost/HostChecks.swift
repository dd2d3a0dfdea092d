// SPDX-License-Identifier: Apache-2.0

import Glibc
package import VUSBCore

/// What `doctor` wants to know of the host's USB.
package struct HostChecks: Sendable, Equatable {
    package enum Nodes: Sendable, Equatable {
        case accessible
        /// /dev/bus/usb isn't there.
        case missing
        /// These can't be opened, with the reason.
        case inaccessible([String: String])
    }

    /// A driver of the kernel's that an attachment would detach, or that keeps it from being made.
    package struct Driver: Sendable, Equatable {
        package let device: DeviceID
        /// Nil for the device as a whole.
        package let interface: InterfaceNumber?
        package let name: String
        /// What the host does with it now, where that keeps it from being detached.
        package let use: String?
    }

    /// Whether there is a USB bus at all.
    package let hasUSB: Bool
    /// Bytes that all transfers of a host may hold; nil where the kernel doesn't say, 0 for no limit.
    package let memoryLimit: Int?
    package let nodes: Nodes
    package let drivers: [Driver]
    /// Devices that are refused, with the reason.
    package let refused: [DeviceID: String]

    package init(paths: HostPaths = HostPaths()) {
        let findings = SysfsEnumerator(root: paths.sysfsDevices).findings()
        hasUSB = findings != nil
        memoryLimit = Self.memoryLimit(paths)
        nodes = Self.nodes(paths, findings ?? [])
        drivers = (findings ?? []).flatMap { Self.drivers(of: $0.id, paths) }
        refused = (findings ?? []).reduce(into: [:]) { refused, finding in
            if case .refused(let id, _, _, let reason) = finding { refused[id] = reason }
        }
    }

    static func memoryLimit(_ paths: HostPaths) -> Int? {
        HostFiles.number(paths.usbcoreParameters + "/usbfs_memory_mb").flatMap { megabytes in
            (0...(1 << 20)).contains(megabytes) ? megabytes << 20 : nil
        }
    }

    private static func nodes(_ paths: HostPaths, _ findings: [SysfsFinding]) -> Nodes {
        guard HostFiles.exists(paths.nodes) else { return .missing }
        var inaccessible: [String: String] = [:]
        for case .device(let record) in findings {
            guard let bus = record.busNumber, let number = record.deviceNumber else { continue }
            let path = paths.node(bus: bus, device: number)
            if unsafe access(path, R_OK | W_OK) != 0 { inaccessible[path] = SystemError.last.description }
        }
        return inaccessible.isEmpty ? .accessible : .inaccessible(inaccessible)
    }

    private static func drivers(of id: DeviceID, _ paths: HostPaths) -> [Driver] {
        let device = SysfsDevice(id, root: paths.sysfsDevices)
        var drivers: [Driver] = []
        if let driver = device.driver, driver != "usb" {
            drivers.append(Driver(device: id, interface: nil, name: driver, use: nil))
        }
        return drivers
            + device.interfaces.compactMap { interface in
                guard let driver = interface.driver, driver != "usbfs" else { return nil }
                return Driver(
                    device: id,
                    interface: InterfaceNumber(rawValue: interface.number),
                    name: driver,
                    use: BlockDeviceUse(paths: paths).use(below: interface.directory)
                )
            }
    }
}
