// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import Synchronization
internal import VUSBCore

// C calls these on the loop's threads. Each checks what C hands over, makes the reply token and calls one method.
//
// SAFETY, for all of them: libfuse gives each request to one callback; bytes and file information are valid until it
// returns, and are copied or only borrowed until then. Handles are looked up in tables, never taken for pointers.

func makeCuseOperations() -> cuse_lowlevel_ops {
    var operations = cuse_lowlevel_ops()
    unsafe operations.`init` = cuseInit
    unsafe operations.open = cuseOpen
    unsafe operations.read = cuseRead
    // usbfs has none.
    unsafe operations.write = { request, _, _, _, _ in unsafe handle(request) { _, reply in reply.error(EINVAL) } }
    unsafe operations.release = cuseRelease
    unsafe operations.ioctl = cuseControl
    unsafe operations.poll = cusePoll
    return operations
}

/// The channel whose request the calling thread carries out.
enum CuseContext {
    private static let served = ThreadReference<CuseChannel>()

    static func serve(_ channel: CuseChannel, _ body: () -> Void) {
        served.set(channel)
        body()
        served.set(nil)
        withExtendedLifetime(channel) {}
    }

    /// Set by `serve`, which keeps the channel alive around all callbacks.
    static var current: CuseChannel? { served.value }
}

private func handle(_ request: fuse_req_t?, _ body: (CuseChannel, consuming sending UsbfsReply) -> Void) {
    guard let request = unsafe request, let channel = CuseContext.current else { return }
    let caller = unsafe fuse_req_ctx(request)?.pointee.pid ?? 0
    body(channel, UsbfsReply(channel, UInt(bitPattern: request), caller: caller))
}

private func withSession(
    _ request: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?,
    _ body: (UsbfsSession, consuming sending UsbfsReply) -> Void
) {
    let handleID = unsafe info?.pointee.fh ?? 0
    unsafe handle(request) { channel, reply in
        guard let session = channel.node.session(handleID) else { return reply.error(EBADF) }
        body(session, reply)
    }
}

private func cuseInit(_ userdata: UnsafeMutableRawPointer?, _ connection: UnsafeMutablePointer<fuse_conn_info>?) {
    // What the kernel wants a read of ours to have room for; nobody writes.
    unsafe connection?.pointee.max_write = UInt32(BufferPool.pageSize)
}

private func cuseOpen(_ request: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?) {
    let mode = unsafe info?.pointee.flags ?? 0
    unsafe handle(request) { channel, reply in
        channel.node.open(reply, isWritable: mode & O_ACCMODE != O_RDONLY)
    }
}

private func cuseRead(
    _ request: fuse_req_t?, _ size: Int, _ offset: off_t, _ info: UnsafeMutablePointer<fuse_file_info>?
) {
    unsafe withSession(request, info) { session, reply in session.read(reply, size: size) }
}

private func cuseRelease(_ request: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?) {
    unsafe withSession(request, info) { session, reply in session.release(reply) }
}

private func cuseControl(
    _ request: fuse_req_t?, _ number: Int32, _ argument: UnsafeMutableRawPointer?,
    _ info: UnsafeMutablePointer<fuse_file_info>?, _ flags: UInt32, _ bytes: UnsafeRawPointer?, _ inCount: Int,
    _ outCount: Int
) {
    unsafe withSession(request, info) { session, reply in
        let input = unsafe UnsafeRawBufferPointer(start: bytes, count: bytes == nil ? 0 : inCount)
        unsafe session.control(
            reply, number: UInt32(bitPattern: number), argument: UInt64(UInt(bitPattern: argument)),
            input: Span(_unsafeBytes: input), outCount: outCount)
    }
}

private func cusePoll(
    _ request: fuse_req_t?, _ info: UnsafeMutablePointer<fuse_file_info>?, _ poll: OpaquePointer?
) {
    unsafe withSession(request, info) { session, reply in
        guard let channel = CuseContext.current else { return reply.error(EIO) }
        session.poll(reply, unsafe poll.map { unsafe CusePoll($0, channel) })
    }
}

/// A signal interrupts the caller of `request`; `session` is the number that `watchInterrupts` gave.
func cuseInterrupted(_ request: fuse_req_t?, _ session: UnsafeMutableRawPointer?) {
    let handle = UInt64(UInt(bitPattern: session))
    CuseContext.current?.node.interrupted(UInt(bitPattern: request), of: handle)
}

/// A poller that waits for a change: told once, at most.
@safe
final class CusePoll: UsbfsPolled, @unchecked Sendable {
    // SAFETY: libfuse lets any thread notify; the flag sees to it that one does, and the channel outlives it.
    private let handle: OpaquePointer
    private let channel: CuseChannel
    private let isTold = Atomic(false)

    @unsafe
    init(_ handle: OpaquePointer, _ channel: CuseChannel) {
        unsafe self.handle = handle
        self.channel = channel
    }

    deinit { unsafe fuse_pollhandle_destroy(handle) }

    /// Has the kernel poll again.
    func notify() {
        guard isTold.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged else {
            return
        }
        // A failure means that nobody polls any more.
        unsafe fuse_lowlevel_notify_poll(handle)
    }
}
