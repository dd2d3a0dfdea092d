// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// What `stat` says of a node, and what the small files contain.
extension NodeTree {
    /// Nil where the node isn't there any more.
    func attributes(of node: NodeID) -> stat? {
        state.withLock { $0.attributes(of: node) }
    }

    /// The whole content of an attribute file; nil where it is no such file, or is gone.
    func content(of node: NodeID) -> [UInt8]? {
        state.withLock { $0.content(of: node) }
    }

    func eventLog(of node: NodeID) -> EventLog? { state.withLock { $0.guests[node.owner]?.events } }

    /// The attachment of an endpoint file or a device directory; nil where it is gone or not published.
    func attachment(of node: NodeID) -> Attachment? {
        state.withLock { state in
            guard let guest = state.guests[node.owner], guest.isPublished else { return nil }
            return guest.attachments[node.device]
        }
    }
}

extension NodeTree.State {
    func content(of node: NodeID) -> [UInt8]? {
        switch node.kind {
        case .guestState:
            guests[node.owner].map { Array(($0.state + "\n").utf8) }
        case .hostAttribute:
            DeviceAttribute(rawValue: node.parameter).flatMap { hostDevices[node.device]?.view.bytes(of: $0) }
        case .deviceAttribute:
            DeviceAttribute(rawValue: node.parameter).flatMap {
                guests[node.owner]?.attachments[node.device]?.view(nodes: characterNodes).bytes(of: $0)
            }
        default: sysfsContent(of: node)
        }
    }

    func attributes(of node: NodeID) -> stat? {
        switch node.kind {
        case .none: nil
        case .root, .guests: Self.node(node, S_IFDIR | 0o755, owner: nil)
        case .hostDevices: Self.node(node, S_IFDIR | 0o500, owner: nil)
        case .hostDevice:
            hostDevices[node.device].map { _ in Self.node(node, S_IFDIR | 0o500, owner: nil) }
        case .hostAttribute:
            content(of: node).map { Self.node(node, S_IFREG | 0o400, owner: nil, size: Self.attributeSize($0, node)) }
        case .guest, .guestState, .guestEvents, .guestChannel, .guestClock, .guestHeartbeat, .guestDev, .guestDevBus,
            .guestUSB, .guestBus, .guestDevices,
            .deviceNode, .device, .deviceAttribute, .endpoints, .endpoint:
            guests[node.owner].flatMap { guestAttributes(of: node, $0) }
        case .sysfs, .sysfsDeviceLink, .sysfsInterfaceLink, .sysfsNumberLink, .sysfsControllerFile, .sysfsDevice,
            .sysfsDeviceFile, .sysfsInterface, .sysfsEndpoint, .sysfsInterfaceFile, .sysfsEndpointFile:
            sysfsAttributes(of: node)
        }
    }

    private func guestAttributes(of node: NodeID, _ guest: NodeTree.Guest) -> stat? {
        let access = guest.access
        let reading = mode_t(access.fileMode & 0o444)
        switch node.kind {
        case .guest: return Self.node(node, S_IFDIR | Self.searchable(reading), owner: access)
        case .guestState: return Self.node(node, S_IFREG | reading, owner: access, size: 4096)
        case .guestEvents: return Self.node(node, S_IFREG | reading, owner: access)
        case .guestChannel:
            // As for endpoints, a size that no write is beyond.
            return guest.channel.map { _ in
                Self.node(node, S_IFREG | mode_t(access.fileMode & 0o666), owner: access, size: TransferLimit.bytes)
            }
        case .guestClock:
            return guest.clock.map { _ in
                Self.node(node, S_IFREG | mode_t(access.fileMode & 0o666), owner: access, size: TransferLimit.bytes)
            }
        case .guestHeartbeat:
            return guest.heartbeat.map { _ in
                Self.node(node, S_IFREG | mode_t(access.fileMode & 0o222), owner: access, size: TransferLimit.bytes)
            }
        default: break
        }
        guard guest.isPublished else { return nil }
        if node.device == 0 { return Self.node(node, S_IFDIR | Self.searchable(reading), owner: access) }
        guard let attachment = guest.attachments[node.device] else { return nil }
        switch node.kind {
        case .deviceNode:
            return attachment.numbers(characterNodes).map { numbers in
                var result = Self.node(node, S_IFCHR | mode_t(access.fileMode), owner: access)
                result.st_rdev = Self.deviceNumber(major: numbers.major, minor: numbers.minor)
                return result
            }
        case .deviceAttribute:
            return content(of: node).map {
                Self.node(node, S_IFREG | reading, owner: access, size: Self.attributeSize($0, node))
            }
        case .endpoint: return Self.endpoint(node, attachment, access)
        default: return Self.node(node, S_IFDIR | Self.searchable(reading), owner: access)
        }
    }

    /// Nil where the settings in force don't have the endpoint. The size is the largest transfer: with a size below
    /// what is written, the kernel would serialise the writers of one endpoint.
    private static func endpoint(_ id: NodeID, _ attachment: NodeTree.Attachment, _ access: GuestAccess) -> stat? {
        let address = EndpointAddress(rawValue: id.parameter)
        let bits: mode_t
        if address == .control {
            bits = 0o666
        } else {
            guard attachment.entry.device.endpoint(address) != nil else { return nil }
            bits = address.direction == .in ? 0o444 : 0o222
        }
        return node(id, S_IFREG | (mode_t(access.fileMode) & bits), owner: access, size: TransferLimit.bytes)
    }

    /// When this process began to serve: the time of all nodes.
    private static let began: timespec = {
        var now = timespec()
        // SAFETY: it writes the one value that it is given.
        unsafe clock_gettime(CLOCK_REALTIME, &now)
        return now
    }()

    static func node(_ id: NodeID, _ mode: mode_t, owner: GuestAccess?, size: Int = 0) -> stat {
        var result = stat()
        result.st_ino = UInt(id.rawValue)
        result.st_mode = mode
        result.st_nlink = mode & S_IFMT == S_IFDIR ? 2 : 1
        result.st_uid = owner?.uid ?? 0
        result.st_gid = owner?.gid ?? 0
        result.st_size = off_t(size)
        result.st_blksize = 4096
        result.st_atim = began
        result.st_mtim = began
        result.st_ctim = began
        return result
    }

    /// sysfs shows a page for text, the real size for binary files.
    private static func attributeSize(_ content: [UInt8], _ node: NodeID) -> Int {
        node.parameter == DeviceAttribute.descriptors.rawValue ? content.count : 4096
    }

    /// Who may read a directory may search it.
    static func searchable(_ bits: mode_t) -> mode_t { bits | bits >> 2 }

    /// glibc's makedev, a macro that Swift can't import.
    private static func deviceNumber(major: Int, minor: Int) -> dev_t {
        let major = UInt64(UInt32(truncatingIfNeeded: major))
        let minor = UInt64(UInt32(truncatingIfNeeded: minor))
        let low = (major & 0xfff) << 8 | (minor & 0xff)
        let high = (major & ~0xfff) << 32 | (minor & ~0xff) << 12
        return UInt(high | low)
    }
}

/// The largest transfer by file: a FUSE request holds 1 MiB at most and the kernel splits above it, so that half of it
/// and a whole number of pages is what surely arrives in one piece.
enum TransferLimit {
    static let bytes = 512 << 10
}
