// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// One connection to the kernel's CUSE: a character device. It's there while this object lives, which all do that have a
/// request of it to answer.
///
/// Concurrency model: any thread answers; the loop's threads serve. libfuse locks its session's own state; what is
/// here doesn't change.
@safe
final class CuseChannel: UsbfsAnswering, @unchecked Sendable {
    // SAFETY: see the concurrency model; the session is freed by the last owner.
    private let session: OpaquePointer
    let descriptor: Int32
    /// Whom requests are for. It doesn't know the channel.
    let node: UsbfsNode

    static let path = "/dev/cuse"
    /// A request is at most this: 32 pages of data, and its header.
    static let requestSize = (128 << 10) + BufferPool.pageSize

    /// Makes a character device.
    /// - Parameters:
    ///   - name: of the device, as in /sys/class/cuse; no other may have it.
    /// - Throws: `unsupported` without CUSE, `accessDenied`, `io` where the numbers or the name are taken.
    init(name: String, number: CharacterDeviceNumber, node: UsbfsNode) throws(USBError) {
        self.node = node
        descriptor = try Self.openCuse()
        do throws(USBError) {
            unsafe session = try Self.makeSession(name: name, number: number, descriptor)
        } catch {
            close(descriptor)
            throw error
        }
        // It answers the kernel's question what device there is to be, which is the first thing to be read.
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Self.requestSize, alignment: BufferPool.pageSize)
        defer { unsafe memory.deallocate() }
        guard unsafe serve(memory) == .served else {
            throw USBError(.io, "the kernel doesn't begin a character device", remedy: "look at dmesg for CUSE")
        }
    }

    // Only now: whoever answers later could meet another session.
    deinit {
        // It closes the descriptor, too.
        unsafe fuse_session_destroy(session)
    }

    private static func openCuse() throws(USBError) -> Int32 {
        let descriptor = unsafe open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK)
        guard descriptor < 0 else { return descriptor }
        let code = errno
        throw problem(code)
    }

    static func problem(_ code: Int32) -> USBError {
        switch code {
        case ENOENT, ENODEV, ENXIO:
            USBError(
                .unsupported, "there is no \(path), which character devices are made with",
                remedy: "modprobe cuse; a kernel without CONFIG_CUSE can't have them")
        case EACCES, EPERM:
            USBError(.accessDenied, "\(path) can't be opened", remedy: "run as root, or let vusbd's user open it")
        default:
            // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
            USBError(
                .io, "\(path) can't be opened: \(unsafe String(cString: strerror(code)))",
                remedy: "raise the limit of open files (LimitNOFILE=)")
        }
    }

    private static func makeSession(
        name: String, number: CharacterDeviceNumber, _ descriptor: Int32
    ) throws(USBError) -> OpaquePointer {
        var operations = makeCuseOperations()
        var info = unsafe cuse_info()
        unsafe info.dev_major = UInt32(number.major)
        unsafe info.dev_minor = UInt32(number.minor)
        unsafe info.flags = UInt32(CUSE_UNRESTRICTED_IOCTL)
        // SAFETY: libfuse copies all that it's given before it returns.
        let session = unsafe "DEVNAME=\(name)".withCString { text in
            var names: UnsafePointer<CChar>? = unsafe text
            return unsafe "vusbd".withCString { program in
                var arguments = unsafe [UnsafeMutablePointer<CChar>(mutating: program), nil]
                return unsafe withUnsafeMutablePointer(to: &names) { names in
                    unsafe info.dev_info_argc = 1
                    unsafe info.dev_info_argv = names
                    return unsafe arguments.withUnsafeMutableBufferPointer { list in
                        var list = unsafe fuse_args(argc: 1, argv: list.baseAddress, allocated: 0)
                        defer { unsafe fuse_opt_free_args(&list) }
                        return unsafe cuse_lowlevel_new(&list, &info, &operations, nil)
                    }
                }
            }
        }
        guard let session = unsafe session else {
            throw USBError(.io, "libfuse refused to make a session", remedy: "check the version of libfuse3")
        }
        // libfuse's way to be given a descriptor that somebody else has opened.
        guard unsafe fuse_session_mount(session, "/dev/fd/\(descriptor)") == 0 else {
            unsafe fuse_session_destroy(session)
            throw USBError(.io, "libfuse doesn't take a descriptor of \(path)")
        }
        return unsafe session
    }

    enum Served: Equatable {
        case served
        /// Nothing to be read now.
        case idle
        /// The kernel has ended it.
        case over
    }

    /// Reads one request to `memory`, of `requestSize` bytes, and carries it out.
    @unsafe
    func serve(_ memory: UnsafeMutableRawPointer) -> Served {
        let count = unsafe read(descriptor, memory, Self.requestSize)
        guard count > 0 else {
            // ENOENT: a request was interrupted before it was read.
            guard count < 0, errno != ENOENT, errno != EINTR else { return count == 0 ? .over : .served }
            return errno == EAGAIN ? .idle : .over
        }
        var request = unsafe fuse_buf()
        unsafe request.mem = memory
        unsafe request.size = count
        CuseContext.serve(self) {
            unsafe fuse_session_process_buf(session, &request)
        }
        return .served
    }

    // MARK: - UsbfsAnswering
    //
    // SAFETY, for all of these: a request's number is what libfuse gave as its address, and `UsbfsReply` answers each
    // once. One that can't be delivered means that its caller or the connection is gone: nobody is left to be told.

    private func pointer(_ request: UInt) -> fuse_req_t? { unsafe fuse_req_t(bitPattern: request) }

    func answer(_ request: UInt, error: Int32) { unsafe fuse_reply_err(pointer(request), error) }

    func answerOpen(_ request: UInt, handle: UInt64) -> Bool {
        // No flags: programs seek to the beginning, which is to succeed.
        unsafe CFuse3_reply_open(pointer(request), handle, 0) != -ENOENT
    }

    func answerRead(_ request: UInt, _ bytes: ArraySlice<UInt8>) {
        unsafe bytes.withUnsafeBytes { source in
            unsafe _ = fuse_reply_buf(
                pointer(request), source.baseAddress?.assumingMemoryBound(to: CChar.self), source.count)
        }
    }

    func answerPoll(_ request: UInt, events: UInt32) { unsafe fuse_reply_poll(pointer(request), events) }

    func answerAgain(_ request: UInt, _ ranges: CallerRanges) {
        unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: CallerRanges.limit) { vectors in
            for index in 0..<ranges.count {
                // The caller's addresses, which only the kernel uses.
                let start = unsafe UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: ranges[index].start))
                unsafe vectors[index] = iovec(iov_base: start, iov_len: ranges[index].count)
            }
            unsafe fuse_reply_ioctl_retry(
                pointer(request), vectors.baseAddress, ranges.inCount,
                vectors.baseAddress.map { unsafe $0 + ranges.inCount }, ranges.outCount)
        }
    }

    @unsafe
    func answerControl(_ request: UInt, result: Int32, _ parts: UnsafeBufferPointer<iovec>) {
        if parts.isEmpty {
            unsafe fuse_reply_ioctl(pointer(request), result, nil, 0)
        } else {
            unsafe fuse_reply_ioctl_iov(pointer(request), result, parts.baseAddress, Int32(parts.count))
        }
    }

    func watchInterrupts(_ request: UInt, of session: UInt64) {
        // The "pointer" is a number that is never dereferenced.
        unsafe fuse_req_interrupt_func(
            pointer(request), cuseInterrupted, UnsafeMutableRawPointer(bitPattern: UInt(session)))
    }
}
