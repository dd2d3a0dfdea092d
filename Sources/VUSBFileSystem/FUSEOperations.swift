// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import VUSBCore

// C calls these on the reader threads. Each checks what C hands over, makes the reply token and calls one method.
//
// SAFETY, for all of them: libfuse gives each request to one callback, which answers it once, through its FUSEReply;
// names, data and file information are valid until the callback returns, and are copied or only borrowed until then.
// Inode and handle numbers are looked up in tables, never taken for pointers.

/// The largest write of one request, in bytes; the kernel cuts longer ones.
let maximumWrite: UInt32 = 1 << 20

/// Requests that the kernel may have under way for which nobody waits in it.
private let maximumBackground: UInt32 = 4096

func makeFUSEOperations() -> fuse_lowlevel_ops {
    var operations = fuse_lowlevel_ops()
    unsafe operations.`init` = fuseInit
    unsafe operations.lookup = fuseLookup
    unsafe operations.forget = fuseForget
    unsafe operations.getattr = fuseGetAttributes
    unsafe operations.setattr = fuseSetAttributes
    unsafe operations.readlink = fuseReadLink
    unsafe operations.open = fuseOpen
    unsafe operations.read = fuseRead
    unsafe operations.write = fuseWrite
    unsafe operations.flush = fuseFlush
    unsafe operations.release = fuseRelease
    unsafe operations.fsync = fuseSync
    unsafe operations.opendir = fuseOpenDirectory
    unsafe operations.readdir = fuseReadDirectory
    unsafe operations.releasedir = fuseReleaseDirectory
    unsafe operations.statfs = fuseStatistics
    unsafe operations.mknod = { request, _, _, _, _ in unsafe refuseChange(request) }
    unsafe operations.mkdir = { request, _, _, _ in unsafe refuseChange(request) }
    unsafe operations.unlink = { request, _, _ in unsafe refuseChange(request) }
    unsafe operations.rmdir = { request, _, _ in unsafe refuseChange(request) }
    unsafe operations.symlink = { request, _, _, _ in unsafe refuseChange(request) }
    unsafe operations.link = { request, _, _, _ in unsafe refuseChange(request) }
    unsafe operations.rename = { request, _, _, _, _, _ in unsafe refuseChange(request) }
    unsafe operations.poll = fusePoll
    return operations
}

/// The reader thread's own context: which file system it serves and where its request lies.
@safe
final class ReaderContext {
    let requests: FileSystemRequests
    let requestBuffer: RequestBuffer

    init(requests: FileSystemRequests, requestBuffer: RequestBuffer) {
        self.requests = requests
        self.requestBuffer = requestBuffer
    }

    private static let installed = ThreadReference<ReaderContext>()

    /// Makes `self` the calling thread's context, until the thread ends. The caller keeps it alive.
    func install() { Self.installed.set(self) }

    static var current: ReaderContext? { installed.value }
}

/// Runs `body` with the file system, the reply and the thread's request buffer.
private func handle(_ request: fuse_req_t?, _ body: (FileSystemRequests, consuming sending FUSEReply) -> Void) {
    guard let request = unsafe request else { return }
    let reply = unsafe FUSEReply(request)
    guard let context = ReaderContext.current else { return reply.error(EIO) }
    body(context.requests, reply)
}

/// Nobody makes, removes or renames anything here, as in sysfs.
private func refuseChange(_ request: fuse_req_t?) {
    unsafe handle(request) { _, reply in reply.error(EPERM) }
}

private func fuseInit(_ userdata: UnsafeMutableRawPointer?, _ connection: UnsafeMutablePointer<fuse_conn_info>?) {
    guard let connection = unsafe connection else { return }
    unsafe connection.pointee.max_write = maximumWrite
    // Each module of a guest on this host keeps such a request waiting: its read of `hcd`. By default there would be 12.
    unsafe connection.pointee.max_background = maximumBackground
    unsafe connection.pointee.congestion_threshold = maximumBackground
    // Requests are read into our own buffers, and answers come from them: no pipes in between.
    let splice = UInt32(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE)
    unsafe connection.pointee.want &= ~splice
}

private func fuseLookup(_ request: fuse_req_t?, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>?) {
    let text = unsafe name.flatMap { unsafe String(validatingCString: $0) }
    unsafe handle(request) { requests, reply in
        guard let text else { return reply.error(ENOENT) }
        requests.lookup(reply, parent: NodeID(rawValue: UInt64(parent)), name: text)
    }
}

/// Inode numbers are computed: there is nothing to forget.
private func fuseForget(_ request: fuse_req_t?, _ node: fuse_ino_t, _ count: UInt64) {
    unsafe handle(request) { _, reply in reply.none() }
}

private func fuseGetAttributes(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    unsafe handle(request) { requests, reply in requests.getAttributes(reply, of: NodeID(rawValue: UInt64(node))) }
}

private func fuseReadLink(_ request: fuse_req_t?, _ node: fuse_ino_t) {
    unsafe handle(request) { requests, reply in requests.readLink(reply, of: NodeID(rawValue: UInt64(node))) }
}

private func fuseSetAttributes(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ attributes: UnsafeMutablePointer<stat>?,
    _ bits: Int32,
    _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    unsafe handle(request) { requests, reply in
        requests.setAttributes(reply, of: NodeID(rawValue: UInt64(node)), changing: bits)
    }
}

private func fuseOpen(_ request: fuse_req_t?, _ node: fuse_ino_t, _ info: UnsafeMutablePointer<fuse_file_info>?) {
    let mode = unsafe info?.pointee.flags ?? 0
    unsafe handle(request) { requests, reply in requests.open(reply, NodeID(rawValue: UInt64(node)), mode: mode) }
}

/// Runs `body` with the open file that `info` names.
private func withFile(
    _ request: fuse_req_t?,
    _ info: UnsafeMutablePointer<fuse_file_info>?,
    _ body: (any OpenFile, consuming sending FUSEReply) -> Void
) {
    let handleID = unsafe FileHandleID(rawValue: info?.pointee.fh ?? 0)
    unsafe handle(request) { requests, reply in
        guard let file = requests.files.file(handleID) else { return reply.error(EBADF) }
        body(file, reply)
    }
}

private func isNonblocking(_ info: UnsafeMutablePointer<fuse_file_info>?) -> Bool {
    unsafe (info?.pointee.flags ?? 0) & O_NONBLOCK != 0
}

private func fuseRead(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ size: Int,
    _ offset: off_t,
    _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    let isNonblocking = unsafe isNonblocking(info)
    unsafe withFile(request, info) { file, reply in
        file.read(reply, size: size, offset: Int64(offset), isNonblocking: isNonblocking)
    }
}

private func fuseWrite(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ bytes: UnsafePointer<CChar>?,
    _ size: Int,
    _ offset: off_t,
    _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    let isNonblocking = unsafe isNonblocking(info)
    // SAFETY: libfuse's bytes lie in this thread's request buffer and are valid until we return.
    let source = unsafe UnsafeRawBufferPointer(start: bytes, count: size)
    unsafe withFile(request, info) { file, reply in
        let data = unsafe WriteData(source, in: ReaderContext.current?.requestBuffer)
        file.write(reply, data, isNonblocking: isNonblocking)
    }
}

private func fuseFlush(_ request: fuse_req_t?, _ node: fuse_ino_t, _ info: UnsafeMutablePointer<fuse_file_info>?) {
    unsafe handle(request) { _, reply in reply.done() }
}

private func fuseRelease(_ request: fuse_req_t?, _ node: fuse_ino_t, _ info: UnsafeMutablePointer<fuse_file_info>?) {
    let handleID = unsafe FileHandleID(rawValue: info?.pointee.fh ?? 0)
    unsafe handle(request) { requests, reply in
        requests.files.close(handleID)
        reply.done()
    }
}

private func fuseSync(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ dataOnly: Int32,
    _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    unsafe withFile(request, info) { file, reply in file.sync(reply) }
}

private func fuseOpenDirectory(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    unsafe handle(request) { requests, reply in requests.openDirectory(reply, NodeID(rawValue: UInt64(node))) }
}

private func fuseReadDirectory(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ size: Int,
    _ offset: off_t,
    _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    let handleID = unsafe FileHandleID(rawValue: info?.pointee.fh ?? 0)
    unsafe handle(request) { requests, reply in
        requests.readDirectory(reply, handleID, size: size, offset: Int64(offset))
    }
}

private func fuseReleaseDirectory(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    unsafe fuseRelease(request, node, info)
}

/// No blocks, no files to count: `df` shows zeros, as for sysfs.
private func fuseStatistics(_ request: fuse_req_t?, _ node: fuse_ino_t) {
    unsafe handle(request) { _, reply in reply.statistics() }
}

private func fusePoll(
    _ request: fuse_req_t?,
    _ node: fuse_ino_t,
    _ info: UnsafeMutablePointer<fuse_file_info>?,
    _ handle: OpaquePointer?
) {
    let events = unsafe info?.pointee.poll_events ?? 0
    unsafe withFile(request, info) { file, reply in
        file.poll(reply, events: events, handle: unsafe handle.map { unsafe PollHandle($0) })
    }
}

/// A signal interrupts the caller of `request`; `file` is the number that `InterruptRegistration` gave.
func fuseInterrupted(_ request: fuse_req_t?, _ file: UnsafeMutableRawPointer?) {
    let handleID = FileHandleID(rawValue: UInt64(UInt(bitPattern: file)))
    ReaderContext.current?.requests.files.file(handleID)?.interrupted(UInt(bitPattern: request))
}
