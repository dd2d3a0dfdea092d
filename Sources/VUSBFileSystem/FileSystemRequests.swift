// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import VUSBCore

/// What each FUSE request means for the tree and the open files. `FUSEOperations` calls it from C.
///
/// Concurrency model: reader threads only; the state is the tree's, the table's and the files'.
final class FileSystemRequests: Sendable {
    let tree: NodeTree
    let files = OpenFileTable()

    init(tree: NodeTree) { self.tree = tree }

    func lookup(_ reply: consuming FUSEReply, parent: NodeID, name: String) {
        guard let node = tree.lookup(name, in: parent), let attributes = tree.attributes(of: node) else {
            return reply.error(ENOENT)
        }
        reply.entry(attributes, inode: node)
    }

    func getAttributes(_ reply: consuming FUSEReply, of node: NodeID) {
        guard let attributes = tree.attributes(of: node) else { return reply.error(ENOENT) }
        reply.attributes(attributes)
    }

    func readLink(_ reply: consuming FUSEReply, of node: NodeID) {
        guard let target = tree.linkTarget(of: node) else { return reply.error(ENOENT) }
        reply.link(to: target)
    }

    /// Owner, mode and size are the daemon's to say; a truncation, as `>` in a shell does it, means nothing here.
    func setAttributes(_ reply: consuming FUSEReply, of node: NodeID, changing bits: Int32) {
        let harmless =
            FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME
            | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW
        guard bits & ~harmless == 0 else { return reply.error(EPERM) }
        getAttributes(reply, of: node)
    }

    /// - Parameter mode: the flags of open(2).
    func open(_ reply: consuming FUSEReply, _ node: NodeID, mode: Int32) {
        switch node.kind {
        case .guestChannel: openChannel(reply, node, mode: mode)
        case .guestClock: openClock(reply, node)
        case .endpoint where tree.attachment(of: node)?.entry.isServedElsewhere == true: reply.error(EBUSY)
        default: open(reply, flags: Self.flags(of: node)) { id in makeFile(node, id) }
        }
    }

    private func openChannel(_ reply: consuming FUSEReply, _ node: NodeID, mode: Int32) {
        guard let channel = tree.channel(of: node) else { return reply.error(ENOENT) }
        // Who searches all files for a text isn't to keep the module from its channel.
        guard mode & O_ACCMODE == O_RDWR else { return reply.error(EINVAL) }
        open(reply, flags: Self.flags(of: node), missing: EBUSY) { id in
            channel.open().map {
                HCDFile(id: id, channel: channel, session: $0, clock: tree.channels.clock)
            }
        }
    }

    private func openClock(_ reply: consuming FUSEReply, _ node: NodeID) {
        guard let openers = tree.clockOpeners(of: node) else { return reply.error(ENOENT) }
        guard tree.clock.start() else { return reply.error(ENOMEM) }
        open(reply, flags: Self.flags(of: node), missing: ENFILE) { id in openers.open(id, clock: tree.clock) }
    }

    func openDirectory(_ reply: consuming FUSEReply, _ node: NodeID) {
        open(reply, flags: 0) { _ in tree.list(node).map { DirectoryFile(entries: $0) } }
    }

    /// - Parameter missing: the errno where `make` has nothing to open.
    private func open(
        _ reply: consuming FUSEReply,
        flags: UInt32,
        missing: Int32 = ENOENT,
        _ make: (FileHandleID) -> (any OpenFile)?
    ) {
        switch files.open(make) {
        case .full: reply.error(ENFILE)
        case .missing: reply.error(missing)
        case .opened(let handle):
            if !reply.opened(handle: handle.rawValue, flags: flags) { files.close(handle) }
        }
    }

    /// Answers all who still wait. To be called when no reader runs any more, before the session is destroyed.
    func abandon() {
        for file in files.all { file.abandon() }
        tree.channels.clock.settle()
        tree.clock.settle()
    }

    func readDirectory(_ reply: consuming FUSEReply, _ handle: FileHandleID, size: Int, offset: Int64) {
        guard let directory = files.file(handle) as? DirectoryFile else { return reply.error(EBADF) }
        reply.directory(directory.entries, from: Int(offset), size: min(size, 1 << 16))
    }

    /// Endpoints, events and clocks are streams without a position, so that a read that blocks doesn't hold up a write on
    /// the same descriptor; attribute files have one, as in sysfs.
    private static func flags(of node: NodeID) -> UInt32 {
        switch node.kind {
        case .endpoint, .guestEvents, .guestClock, .guestHeartbeat:
            CFuse3_FOPEN_DIRECT_IO | CFuse3_FOPEN_STREAM | CFuse3_FOPEN_NONSEEKABLE
                | CFuse3_FOPEN_PARALLEL_DIRECT_WRITES
        // Exporters read and write at offsets (pread(2)), which a stream refuses.
        case .guestChannel: CFuse3_FOPEN_DIRECT_IO | CFuse3_FOPEN_PARALLEL_DIRECT_WRITES
        default: CFuse3_FOPEN_DIRECT_IO
        }
    }

    private func makeFile(_ node: NodeID, _ id: FileHandleID) -> (any OpenFile)? {
        switch node.kind {
        case .guestEvents: return tree.eventLog(of: node).map { EventsFile(id: id, log: $0) }
        case .guestHeartbeat: return tree.heartbeat(of: node).map { HeartbeatFile(heartbeat: $0) }
        case .endpoint:
            let address = EndpointAddress(rawValue: node.parameter)
            guard let attachment = tree.attachment(of: node) else { return nil }
            if address == .control { return ControlFile(id: id, attachment: attachment) }
            guard attachment.entry.device.endpoint(address) != nil else { return nil }
            return switch address.direction {
            case .in: InEndpointFile(id: id, attachment: attachment, address: address)
            case .out: OutEndpointFile(id: id, attachment: attachment, address: address)
            }
        default: return tree.content(of: node).map { AttributeFile(content: $0) }
        }
    }
}

/// A directory as it was when it was opened.
private final class DirectoryFile: OpenFile {
    let entries: [DirectoryEntry]

    init(entries: [DirectoryEntry]) { self.entries = entries }

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        reply.error(EISDIR)
    }
}
