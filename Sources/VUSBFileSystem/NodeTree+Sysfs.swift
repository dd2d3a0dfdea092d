// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// A guest's sysfs: SysfsView.md.
extension NodeTree {
    /// Nil where the node is no link, or is gone.
    func linkTarget(of node: NodeID) -> String? {
        state.withLock { state in
            guard case .link(let target) = state.sysfsNode(node) else { return nil }
            return target
        }
    }
}

extension NodeTree.Guest {
    /// In the order of their numbers. Bus 1 is always there, so that whoever looks finds USB.
    var buses: [Int] { Set(attachments.values.map(\.entry.busNumber)).union([1]).sorted() }

    /// Root hubs and devices, each hub before what is at it.
    func sysfsDevices(_ nodes: CharacterNodes) -> [(serial: UInt32, device: SysfsDevice)] {
        let devices = attachments.values.map { ($0.serial, SysfsDevice($0, nodes: nodes)) }
        return buses.flatMap { bus in
            [(UInt32(bus), SysfsDevice(rootHubOf: bus, guest: name))] + devices.filter { $0.1.busNumber == bus }
        }
    }

    /// - Parameter serial: an attachment's, or a bus's number for its root hub.
    func sysfsDevice(_ serial: UInt32, _ nodes: CharacterNodes) -> SysfsDevice? {
        if serial < NodeID.firstSerial {
            return buses.contains(Int(serial)) ? SysfsDevice(rootHubOf: Int(serial), guest: name) : nil
        }
        return attachments[serial].map { SysfsDevice($0, nodes: nodes) }
    }
}

extension NodeTree.State {
    func sysfsContent(of node: NodeID) -> [UInt8]? {
        guard case .file(let content, _) = sysfsNode(node) else { return nil }
        return content
    }

    func sysfsAttributes(of node: NodeID) -> stat? {
        guard let access = guests[node.owner]?.access, let found = sysfsNode(node) else { return nil }
        let reading = mode_t(access.fileMode & 0o444)
        return switch found {
        case .directory: Self.node(node, S_IFDIR | Self.searchable(reading), owner: access)
        case .file(let content, let isBinary):
            // As for all attributes: a page, unless it's binary.
            Self.node(node, S_IFREG | reading, owner: access, size: isBinary ? content.count : 4096)
        case .link(let target): Self.node(node, S_IFLNK | 0o777, owner: access, size: target.utf8.count)
        }
    }

    /// Nil where the node isn't there (any more), or is none of a guest's sysfs.
    func sysfsNode(_ node: NodeID) -> SysfsNode? {
        guard let guest = guests[node.owner], guest.isPublished, let kind = node.kind else { return nil }
        switch kind {
        case .sysfs: return SysfsDirectory(rawValue: node.parameter).map { _ in .directory }
        case .sysfsControllerFile: return SysfsControllerFile(rawValue: node.parameter)?.node
        case .sysfsDeviceLink, .sysfsInterfaceLink, .sysfsNumberLink, .sysfsDevice, .sysfsDeviceFile, .sysfsInterface,
            .sysfsEndpoint, .sysfsInterfaceFile, .sysfsEndpointFile:
            return guest.sysfsDevice(node.device, characterNodes).flatMap { Self.sysfsNode(node, kind, of: $0) }
        default: return nil
        }
    }

    private static func sysfsNode(_ node: NodeID, _ kind: NodeID.Kind, of device: SysfsDevice) -> SysfsNode? {
        // The links are in bus/usb/devices, and in dev/char as deep.
        let up = "../../../"
        let interface = device.interface(InterfaceNumber(rawValue: node.parameter))
        switch kind {
        case .sysfsDeviceLink: return .link(up + device.path)
        case .sysfsInterfaceLink: return interface.map { .link(up + $0.path) }
        case .sysfsNumberLink: return device.view.bytes(of: .dev).map { _ in .link("../../" + device.path) }
        case .sysfsDevice: return .directory
        case .sysfsDeviceFile: return SysfsDeviceFile(rawValue: node.parameter).flatMap { device.node($0) }
        case .sysfsInterface: return interface.map { _ in .directory }
        case .sysfsInterfaceFile: return SysfsInterfaceFile(rawValue: node.file).flatMap { interface?.node($0) }
        case .sysfsEndpoint:
            return endpoint(node, of: device).map { _ in .directory }
        case .sysfsEndpointFile:
            return endpoint(node, of: device).flatMap { endpoint in
                SysfsEndpointFile(rawValue: node.file).map { endpoint.node($0) }
            }
        default: return nil
        }
    }

    private static func endpoint(_ node: NodeID, of device: SysfsDevice) -> SysfsEndpoint? {
        let address = EndpointAddress(rawValue: node.parameter)
        if address == .control { return device.controlEndpoint }
        return device.interfaces.lazy.compactMap { $0.endpoint(address) }.first
    }

    /// Nil where it isn't there (any more), or is no directory.
    func sysfsEntries(of directory: NodeID) -> [DirectoryEntry]? {
        guard let guest = guests[directory.owner], guest.isPublished else { return nil }
        if directory.kind == .sysfs {
            return SysfsDirectory(rawValue: directory.parameter).map { fixedEntries($0, directory, guest) }
        }
        guard let device = guest.sysfsDevice(directory.device, characterNodes) else { return nil }
        switch directory.kind {
        case .sysfsDevice: return deviceEntries(device, directory, guest)
        case .sysfsInterface:
            return device.interface(InterfaceNumber(rawValue: directory.parameter)).map {
                Self.interfaceEntries($0, directory)
            }
        case .sysfsEndpoint:
            return Self.endpoint(directory, of: device).map { _ in
                SysfsEndpointFile.allCases.map { .file($0.name, directory.file(.sysfsEndpointFile, $0.rawValue)) }
            }
        default: return nil
        }
    }
}

/// What is in which directory.
extension NodeTree.State {
    private func fixedEntries(
        _ place: SysfsDirectory,
        _ directory: NodeID,
        _ guest: NodeTree.Guest
    ) -> [DirectoryEntry] {
        let fixed = place.children.map { child in
            DirectoryEntry.directory(child.name, directory.sibling(.sysfs, parameter: child.directory.rawValue))
        }
        return switch place {
        case .devices: guest.sysfsDevices(characterNodes).flatMap { Self.links($0.device, serial: $0.serial, guest) }
        case .char:
            guest.attachments.values.compactMap { attachment in
                attachment.numbers(characterNodes).map {
                    .link(
                        "\($0.major):\($0.minor)",
                        NodeID(.sysfsNumberLink, owner: guest.serial, device: attachment.serial)
                    )
                }
            }
        case .controller:
            SysfsControllerFile.allCases.map { file in
                Self.entry(file.name, file.node, directory.sibling(.sysfsControllerFile, parameter: file.rawValue))
            }
                + guest.buses.map {
                    .directory("usb\($0)", NodeID(.sysfsDevice, owner: guest.serial, device: UInt32($0)))
                }
        default: fixed
        }
    }

    /// What `bus/usb/devices` has of a device: the links to it and to its interfaces.
    private static func links(_ device: SysfsDevice, serial: UInt32, _ guest: NodeTree.Guest) -> [DirectoryEntry] {
        let own = NodeID(.sysfsDeviceLink, owner: guest.serial, device: serial)
        return [.link(device.name, own)]
            + device.interfaces.map {
                .link($0.name, own.sibling(.sysfsInterfaceLink, parameter: $0.setting.bInterfaceNumber.rawValue))
            }
    }

    /// The same by its name, without asking all devices: programs look up each one's many times.
    func sysfsLink(_ name: String, in directory: NodeID) -> NodeID? {
        guard let guest = guests[directory.owner], guest.isPublished else { return nil }
        let owner = name.prefix { $0 != ":" }
        let bus = owner.hasPrefix("usb") ? owner.dropFirst(3) : owner.hasSuffix("-0") ? owner.dropLast(2) : ""
        guard
            let serial = guest.attachment(path: owner)?.serial
                ?? UInt32(bus).flatMap({ $0 < NodeID.firstSerial ? $0 : nil }),
            let device = guest.sysfsDevice(serial, characterNodes)
        else { return nil }
        return Self.links(device, serial: serial, guest).first { $0.name == name }?.inode
    }

    private func deviceEntries(
        _ device: SysfsDevice,
        _ directory: NodeID,
        _ guest: NodeTree.Guest
    ) -> [DirectoryEntry] {
        let files = SysfsDeviceFile.allCases.compactMap { file in
            device.node(file).map {
                Self.entry(file.name, $0, directory.sibling(.sysfsDeviceFile, parameter: file.rawValue))
            }
        }
        let interfaces = device.interfaces.map {
            DirectoryEntry.directory(
                $0.name,
                directory.sibling(.sysfsInterface, parameter: $0.setting.bInterfaceNumber.rawValue)
            )
        }
        let endpoint = DirectoryEntry.directory(device.controlEndpoint.name, directory.sibling(.sysfsEndpoint))
        let below =
            device.isRootHub
            ? guest.attachments.values.filter { $0.entry.busNumber == device.busNumber }.map {
                DirectoryEntry.directory(
                    $0.entry.path, NodeID(.sysfsDevice, owner: directory.owner, device: $0.serial))
            } : []
        return files + [endpoint] + interfaces + below
    }

    private static func interfaceEntries(_ interface: SysfsInterface, _ directory: NodeID) -> [DirectoryEntry] {
        let files = SysfsInterfaceFile.allCases.compactMap { file in
            interface.node(file).map { entry(file.name, $0, directory.file(.sysfsInterfaceFile, file.rawValue)) }
        }
        return files
            + interface.endpoints.map {
                .directory(
                    $0.name,
                    directory.sibling(.sysfsEndpoint, parameter: $0.descriptor.bEndpointAddress.rawValue)
                )
            }
    }

    private static func entry(_ name: String, _ node: SysfsNode, _ inode: NodeID) -> DirectoryEntry {
        switch node {
        case .directory: .directory(name, inode)
        case .file: .file(name, inode)
        case .link: .link(name, inode)
        }
    }
}
