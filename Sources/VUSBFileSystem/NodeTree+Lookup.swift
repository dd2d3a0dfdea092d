// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// Names to nodes, and what is in a directory.
extension NodeTree {
    /// Nil where the directory has no such name.
    func lookup(_ name: String, in directory: NodeID) -> NodeID? {
        state.withLock { state in
            if directory.kind == .sysfs, directory.parameter == SysfsDirectory.devices.rawValue {
                return state.sysfsLink(name, in: directory)
            }
            // Other listings are small, and names come from them: one place decides what exists.
            return state.entries(of: directory)?.first { $0.name == name }?.inode
        }
    }

    /// Nil where the node isn't there (any more), or isn't a directory.
    func list(_ directory: NodeID) -> [DirectoryEntry]? {
        state.withLock { $0.entries(of: directory) }
    }
}

extension NodeTree.State {
    func entries(of directory: NodeID) -> [DirectoryEntry]? {
        switch directory.kind {
        case .root:
            [.directory("devices", NodeID(.hostDevices)), .directory("guests", NodeID(.guests))]
        case .hostDevices:
            hostDevices.values.map { .directory($0.entry.record.id.rawValue, NodeID(.hostDevice, device: $0.serial)) }
        case .hostDevice:
            hostDevices[directory.device].map { Self.attributeEntries($0.view, directory, .hostAttribute) }
        case .guests:
            guests.values.map { .directory($0.name, NodeID(.guest, owner: $0.serial)) }
        case .endpoints:
            guests[directory.owner]?.attachments[directory.device].map { Self.endpointEntries($0, directory) }
        case .device:
            guests[directory.owner]?.attachments[directory.device].map { attachment in
                Self.attributeEntries(attachment.view(nodes: characterNodes), directory, .deviceAttribute)
                    + [.directory("ep", directory.sibling(.endpoints))]
            }
        case .guest, .guestDev, .guestDevBus, .guestUSB, .guestBus, .guestDevices:
            guests[directory.owner].flatMap { guestEntries(of: directory, $0) }
        case .sysfs, .sysfsDevice, .sysfsInterface, .sysfsEndpoint: sysfsEntries(of: directory)
        case .none, .hostAttribute, .guestState, .guestEvents, .guestChannel, .guestClock, .guestHeartbeat,
            .deviceNode, .deviceAttribute, .endpoint,
            .sysfsDeviceLink, .sysfsInterfaceLink, .sysfsNumberLink, .sysfsControllerFile, .sysfsDeviceFile,
            .sysfsInterfaceFile, .sysfsEndpointFile:
            nil
        }
    }

    private func guestEntries(of directory: NodeID, _ guest: NodeTree.Guest) -> [DirectoryEntry]? {
        if directory.kind == .guest { return Self.topEntries(guest, directory) }
        guard guest.isPublished else { return nil }
        return switch directory.kind {
        case .guestDev: [.directory("bus", directory.sibling(.guestDevBus))]
        case .guestDevBus: [.directory("usb", directory.sibling(.guestUSB))]
        case .guestUSB:
            Set(guest.attachments.values.map(\.entry.busNumber)).map { bus in
                .directory(
                    SysfsText.threeDigits(bus), directory.sibling(.guestBus, parameter: UInt8(truncatingIfNeeded: bus)))
            }
        case .guestBus:
            guest.attachments.values.filter {
                $0.entry.busNumber == Int(directory.parameter) && $0.numbers(characterNodes) != nil
            }.map { attachment in
                DirectoryEntry(
                    name: SysfsText.threeDigits(attachment.entry.deviceNumber),
                    inode: NodeID(.deviceNode, owner: guest.serial, device: attachment.serial),
                    kind: S_IFCHR
                )
            }
        case .guestDevices:
            guest.attachments.values.map {
                .directory($0.entry.path, NodeID(.device, owner: guest.serial, device: $0.serial))
            }
        default: nil
        }
    }

    private static func topEntries(_ guest: NodeTree.Guest, _ directory: NodeID) -> [DirectoryEntry] {
        var files: [DirectoryEntry] = [
            .file("state", directory.sibling(.guestState)), .file("events", directory.sibling(.guestEvents)),
        ]
        if guest.channel != nil { files.append(.file("hcd", directory.sibling(.guestChannel))) }
        guard guest.isPublished else { return files }
        if guest.clock != nil { files.append(.file("clock", directory.sibling(.guestClock))) }
        if guest.heartbeat != nil { files.append(.file("heartbeat", directory.sibling(.guestHeartbeat))) }
        return files + [
            .directory("dev", directory.sibling(.guestDev)), .directory("devices", directory.sibling(.guestDevices)),
            .directory("sys", directory.sibling(.sysfs, parameter: SysfsDirectory.top.rawValue)),
        ]
    }

    private static func attributeEntries(
        _ view: DeviceView,
        _ directory: NodeID,
        _ kind: NodeID.Kind
    ) -> [DirectoryEntry] {
        DeviceAttribute.allCases.filter { view.bytes(of: $0) != nil }.map {
            .file($0.name, directory.sibling(kind, parameter: $0.rawValue))
        }
    }

    private static func endpointEntries(_ attachment: NodeTree.Attachment, _ directory: NodeID) -> [DirectoryEntry] {
        let addresses = [EndpointAddress.control] + attachment.entry.device.settings.endpoints.map(\.bEndpointAddress)
        return addresses.map { .file($0.name, directory.sibling(.endpoint, parameter: $0.rawValue)) }
    }
}

extension DirectoryEntry {
    static func directory(_ name: String, _ inode: NodeID) -> DirectoryEntry {
        DirectoryEntry(name: name, inode: inode, kind: S_IFDIR)
    }

    static func file(_ name: String, _ inode: NodeID) -> DirectoryEntry {
        DirectoryEntry(name: name, inode: inode, kind: S_IFREG)
    }

    static func link(_ name: String, _ inode: NodeID) -> DirectoryEntry {
        DirectoryEntry(name: name, inode: inode, kind: S_IFLNK)
    }
}
