// SPDX-License-Identifier: Apache-2.0

import CVUSBShims
import Glibc
import Synchronization
import VUSBCore

/// The file under an emulated disk. Open and locked until `detach`, or as long as this lives.
///
/// Concurrency model: any thread reads, writes and detaches. `uses` counts those who need the file open: the disk until
/// it's detached, and each call while it lasts. Whoever takes it to zero closes the file, so the lock is never given up
/// under a write. No lock.
final class ImageFile: Sendable {
    private let descriptor: Int32
    private let uses = Atomic<Int>(1)
    /// A multiple of `blockSize`, at least one block.
    let byteCount: UInt64
    let isReadOnly: Bool

    static let blockSize = 512

    /// - Throws: for a file that can't be a disk, with what to do about it.
    init(path: String, readOnly: Bool) throws(USBError) {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw USBError(.invalid, "a disk needs the name of an image file", remedy: "write disk=IMAGE")
        }
        let (descriptor, isReadOnly) = try Self.open(path, readOnly: readOnly)
        do {
            byteCount = try Self.check(descriptor, path)
            try Self.lock(descriptor, path, isReadOnly: isReadOnly)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        self.descriptor = descriptor
        self.isReadOnly = isReadOnly
    }

    deinit { if uses.load(ordering: .relaxed) > 0 { release() } }

    /// The disk needs the file no longer: it's free for others at once, or where calls are under way with the last of
    /// them. To be called once at most.
    func detach() { endUse() }

    /// False where the file is closed.
    private func beginUse() -> Bool {
        var count = uses.load(ordering: .relaxed)
        while count > 0 {
            let (isExchanged, original) = uses.compareExchange(
                expected: count,
                desired: count + 1,
                ordering: .acquiring
            )
            if isExchanged { return true }
            count = original
        }
        return false
    }

    private func endUse() {
        if uses.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { release() }
    }

    /// What closing could report was reported by SYNCHRONIZE CACHE to whoever asked.
    private func release() {
        // Closing alone leaves the lock to a child process that has inherited the descriptor, until it calls exec.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }

    /// A file that may not be written is opened read-only: also where its mode says so, though root might write it.
    private static func open(_ path: String, readOnly: Bool) throws(USBError) -> (Int32, Bool) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw openError(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            let isDirectory = status.st_mode & S_IFMT == S_IFDIR
            throw USBError(
                .invalid,
                "the image \(path) is \(isDirectory ? "a directory" : "no regular file")",
                remedy: "name a regular file, such as mkfs.vfat -C makes"
            )
        }
        if !readOnly, status.st_mode & 0o222 != 0 {
            let descriptor = unsafe Glibc.open(path, O_RDWR | O_CLOEXEC)
            if descriptor >= 0 { return (descriptor, false) }
            guard errno == EACCES || errno == EPERM || errno == EROFS else { throw openError(path, errno) }
        }
        let descriptor = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw openError(path, errno) }
        return (descriptor, true)
    }

    private static func openError(_ path: String, _ code: Int32) -> USBError {
        switch code {
        case ENOENT, ENOTDIR:
            USBError(.notFound, "the image \(path) doesn't exist", remedy: "make it, for example with truncate -s 64M")
        case EACCES, EPERM:
            USBError(.accessDenied, "the image \(path) can't be read", remedy: "let the daemon's user read it")
        default: USBError(.io, "the image \(path) can't be opened: \(message(code))")
        }
    }

    private static func message(_ code: Int32) -> String {
        // SAFETY: strerror answers a text for every number, which is copied at once.
        unsafe String(cString: strerror(code))
    }

    private static func check(_ descriptor: Int32, _ path: String) throws(USBError) -> UInt64 {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else {
            throw USBError(.io, "the image \(path) can't be examined: \(message(errno))")
        }
        let size = status.st_size
        guard size > 0, size % blockSize == 0 else {
            throw USBError(
                .invalid,
                "the image \(path) has \(size) bytes, which isn't a whole number of 512-byte blocks",
                remedy: "extend it, for example with truncate -s %512"
            )
        }
        return UInt64(size)
    }

    private static func lock(_ descriptor: Int32, _ path: String, isReadOnly: Bool) throws(USBError) {
        guard flock(descriptor, (isReadOnly ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0 else { return }
        guard errno == EWOULDBLOCK else {
            throw USBError(.io, "the image \(path) can't be locked: \(message(errno))")
        }
        throw USBError(
            .busy,
            "the image \(path) is in use",
            remedy: "use another file, or end the program that has it (fuser \(path))"
        )
    }

    /// - Returns: bytes read, 0 behind the end, or a negative errno; -EAGAIN where it would wait and may not, -ENODEV
    ///   where the file is detached.
    @unsafe
    func read(into target: UnsafeMutableRawPointer, count: Int, at offset: UInt64, mayBlock: Bool) -> Int {
        guard beginUse() else { return -Int(ENODEV) }
        defer { endUse() }
        return unsafe CVUSBShims_pread(descriptor, target, UInt(count), Int(offset), mayBlock ? 0 : 1)
    }

    /// - Parameter isDurable: on the medium when it returns.
    /// - Returns: bytes written, or a negative errno as `read`.
    @unsafe
    func write(
        from source: UnsafeRawPointer,
        count: Int,
        at offset: UInt64,
        isDurable: Bool,
        mayBlock: Bool
    ) -> Int {
        guard beginUse() else { return -Int(ENODEV) }
        defer { endUse() }
        return unsafe CVUSBShims_pwrite(
            descriptor, source, UInt(count), Int(offset), mayBlock ? 0 : 1, isDurable ? 1 : 0)
    }

    /// - Returns: 0 or a negative errno as `read`.
    func synchronize() -> Int {
        guard beginUse() else { return -Int(ENODEV) }
        defer { endUse() }
        return fdatasync(descriptor) == 0 ? 0 : -Int(errno)
    }
}
