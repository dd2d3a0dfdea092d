// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
import Glibc
internal import VUSBCore

/// A file that one process at a time holds, with that process's number in it. The kernel lets go of it when the
/// process ends, however it ends.
struct InstanceLock: ~Copyable, Sendable {
    let path: String
    private let descriptor: OwnedDescriptor

    /// - Parameter object: what is guarded, for the message: `state directory /var/lib/vusb`.
    /// - Throws: `busy` with the number of the process that has it.
    init(_ path: String, object: String) throws(USBError) {
        while true {
            // No link is followed: in a directory that others may write to it could lead to a file worth more than this.
            let flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW
            let descriptor = try OwnedDescriptor(opening: path, flags, mode: 0o644)
            guard flock(descriptor.number, LOCK_EX | LOCK_NB) == 0 else {
                throw Self.refusal(path, object, errno)
            }
            // The one before may have removed the file between our open and its end: then we hold a lock on nothing.
            guard Self.isStill(descriptor.number, path) else { continue }
            try Self.write(descriptor.number, path)
            self.path = path
            self.descriptor = descriptor
            return
        }
    }

    /// Removes the file. Only the holder may: whoever comes next sees that the file it opened is gone.
    consuming func release() {
        // A file that can't be removed does no harm: the lock goes with the descriptor.
        _ = unsafe unlink(path)
    }

    private static func refusal(_ path: String, _ object: String, _ code: Int32) -> USBError {
        guard code == EWOULDBLOCK else { return systemError("flock of \(path)", code) }
        let holder = holder(path).map { "vusbd with pid \($0)" } ?? "another vusbd"
        return USBError(
            .busy,
            "\(object) is used by \(holder)",
            remedy: "stop that one, or give this one a --state, --mount and --socket of its own"
        )
    }

    /// The number in the file.
    static func holder(_ path: String) -> Int? {
        guard let descriptor = try? OwnedDescriptor(opening: path, O_RDONLY | O_CLOEXEC) else {
            return nil  // It only makes the message less helpful.
        }
        var bytes = [UInt8](repeating: 0, count: 32)
        // SAFETY: read stays within the count that it's given.
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(descriptor.number, $0.baseAddress, $0.count) }
        guard count > 0 else { return nil }
        let text = String(decoding: bytes.prefix(count), as: UTF8.self)
        return Int(text.prefix { $0.isNumber })
    }

    private static func isStill(_ descriptor: Int32, _ path: String) -> Bool {
        unsafe CVUSBShims_is_same_file(descriptor, path) != 0
    }

    private static func write(_ descriptor: Int32, _ path: String) throws(USBError) {
        let text = "\(getpid())\n"
        guard ftruncate(descriptor, 0) == 0 else { throw systemError("truncate of \(path)", errno) }
        let count = unsafe text.withCString { unsafe Glibc.write(descriptor, $0, strlen($0)) }
        guard count == text.utf8.count else { throw systemError("write of \(path)", errno) }
    }
}
