// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import VUSBCore

/// A mounted libfuse session.
@safe
final class SessionHandle: @unchecked Sendable {
    // SAFETY: libfuse locks the session's own state; `close` is called once, after the last reader has ended.
    private let session: OpaquePointer
    private let file: Int32
    private let mountPoint: String

    init(mountPoint: String, characterNodes: CharacterNodes) throws(USBError) {
        self.mountPoint = mountPoint
        unsafe session = try Self.makeSession(options: Self.mountOptions(characterNodes))
        guard unsafe fuse_session_mount(session, mountPoint) == 0 else {
            let reason = errorText(errno)
            unsafe fuse_session_destroy(session)
            throw USBError(
                .io,
                "can't mount at \(mountPoint): \(reason)",
                remedy: "run as root, or install fuse3 and set user_allow_other in /etc/fuse.conf"
            )
        }
        file = unsafe fuse_session_fd(session)
    }

    /// The kernel asks nobody else whether a node may be opened: what the tree's nodes carry and whether the mount lets
    /// them be followed come from one value.
    static func mountOptions(_ characterNodes: CharacterNodes) -> String {
        "allow_other,default_permissions,\(characterNodes.mountOption),nosuid,noexec,fsname=vusb,subtype=vusb"
    }

    private static func makeSession(options: String) throws(USBError) -> OpaquePointer {
        var arguments = unsafe ["vusbd", "-o", options].map { (text: String) -> UnsafeMutablePointer<CChar>? in
            unsafe strdup(text)
        }
        defer { for index in unsafe arguments.indices { unsafe free(arguments[index]) } }
        var operations = makeFUSEOperations()
        let session = unsafe arguments.withUnsafeMutableBufferPointer { buffer in
            var list = unsafe fuse_args(argc: Int32(buffer.count), argv: buffer.baseAddress, allocated: 0)
            let size = MemoryLayout<fuse_lowlevel_ops>.size
            defer { unsafe fuse_opt_free_args(&list) }
            return unsafe fuse_session_new(&list, &operations, size, nil)
        }
        guard let session = unsafe session else {
            throw USBError(.io, "libfuse refused to make a session", remedy: "check the version of libfuse3")
        }
        return unsafe session
    }

    /// Reads one request into `buffer` and carries it out. False once the session is over.
    func serveOne(_ buffer: RequestBuffer) -> Bool {
        guard let memory = unsafe buffer.start() else { return true }
        let count = unsafe read(file, memory, RequestBuffer.capacity)
        guard count >= 0 else { return Self.isTransient(errno) }
        guard count > 0 else { return false }
        var request = unsafe fuse_buf()
        unsafe request.mem = memory
        unsafe request.size = count
        unsafe fuse_session_process_buf(session, &request)
        return unsafe fuse_session_exited(session) == 0
    }

    /// ENOENT: a request was interrupted before it was read. ENODEV, the other one to expect: unmounted.
    private static func isTransient(_ number: Int32) -> Bool {
        number == EINTR || number == EAGAIN || number == ENOENT
    }

    /// Cuts off who is still on the file system, and unmounts it.
    func close() {
        unsafe fuse_session_unmount(session)
        unsafe fuse_session_destroy(session)
    }
}
