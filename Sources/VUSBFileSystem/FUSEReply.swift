// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import VUSBCore

/// The right to answer one FUSE request, exactly once, from any thread. Whoever drops it answers EIO.
@safe
struct FUSEReply: ~Copyable, @unchecked Sendable {
    // SAFETY: libfuse lets any thread answer, once; this value is the only way to it.
    private let request: fuse_req_t

    @unsafe
    init(_ request: fuse_req_t) { unsafe self.request = request }

    deinit {
        assertionFailure("a FUSE request was dropped without an answer")
        unsafe sent(fuse_reply_err(request, EIO))
    }

    /// Names the request while it isn't answered; to be compared, never dereferenced.
    var identity: UInt { unsafe UInt(bitPattern: request) }

    /// - Parameter errno: positive.
    consuming func error(_ errno: Int32) {
        unsafe sent(fuse_reply_err(request, errno))
        discard self
    }

    /// Success of a request that has no answer but that.
    consuming func done() {
        unsafe sent(fuse_reply_err(request, 0))
        discard self
    }

    /// For `forget`, which the kernel doesn't wait for.
    consuming func none() {
        unsafe fuse_reply_none(request)
        discard self
    }

    consuming func written(_ count: Int) {
        unsafe sent(fuse_reply_write(request, count))
        discard self
    }

    /// Answers with the first `count` bytes of `buffer`, straight from its memory.
    consuming func data(_ buffer: borrowing TransferBuffer, count: Int) {
        precondition(count >= 0 && count <= buffer.capacity)
        // SAFETY: the count was checked; the buffer is borrowed for the call, and libfuse copies before it returns.
        unsafe sent(fuse_reply_buf(request, buffer.baseAddress.assumingMemoryBound(to: CChar.self), count))
        discard self
    }

    consuming func data(_ bytes: [UInt8]) {
        // SAFETY: the array outlives the call.
        unsafe bytes.withUnsafeBytes { source in
            unsafe sent(fuse_reply_buf(request, source.baseAddress?.assumingMemoryBound(to: CChar.self), source.count))
        }
        discard self
    }

    consuming func data(_ line: ClockLine) {
        // SAFETY: libfuse copies before it returns.
        unsafe line.withBytes { source in
            unsafe sent(fuse_reply_buf(request, source.baseAddress?.assumingMemoryBound(to: CChar.self), source.count))
        }
        discard self
    }

    /// Answers with all that `parts` name, straight from their memory.
    /// - Returns: whether the answer was delivered.
    @unsafe
    consuming func gathered(_ parts: UnsafeBufferPointer<iovec>) -> Bool {
        let result = unsafe fuse_reply_iov(request, parts.baseAddress, Int32(parts.count))
        discard self
        return result == 0
    }

    consuming func entry(_ attributes: stat, inode: NodeID) {
        var entry = fuse_entry_param()
        entry.ino = inode.rawValue
        entry.attr = attributes
        unsafe sent(fuse_reply_entry(request, &entry))
        discard self
    }

    consuming func attributes(_ attributes: stat) {
        var attributes = attributes
        unsafe sent(fuse_reply_attr(request, &attributes, 0))
        discard self
    }

    /// Where a symbolic link leads.
    consuming func link(to target: String) {
        unsafe sent(fuse_reply_readlink(request, target))
        discard self
    }

    /// - Returns: false where the opener went away meanwhile: no release will come for the handle.
    consuming func opened(handle: UInt64, flags: UInt32) -> Bool {
        let result = unsafe CFuse3_reply_open(request, handle, flags)
        discard self
        return result != -ENOENT
    }

    /// No blocks and no files to count: `df` shows zeros, as for sysfs.
    consuming func statistics() {
        var statistics = statvfs()
        statistics.f_namemax = 255
        statistics.f_bsize = 4096
        unsafe sent(fuse_reply_statfs(request, &statistics))
        discard self
    }

    consuming func poll(_ events: UInt32) {
        unsafe sent(fuse_reply_poll(request, events))
        discard self
    }

    /// Appends directory entries from `names[start...]` as far as they fit into `size` bytes.
    consuming func directory(_ names: [DirectoryEntry], from start: Int, size: Int) {
        var bytes = [UInt8](repeating: 0, count: size)
        var used = 0
        for index in names.indices.dropFirst(max(0, start)) {
            let needed = add(names[index], offset: index + 1, to: &bytes, at: used)
            if used + needed > size { break }
            used += needed
        }
        bytes.removeLast(size - used)
        data(bytes)
    }

    private func add(_ entry: DirectoryEntry, offset: Int, to bytes: inout [UInt8], at position: Int) -> Int {
        var attributes = stat()
        attributes.st_ino = UInt(entry.inode.rawValue)
        attributes.st_mode = entry.kind
        // SAFETY: libfuse writes only where the whole entry fits into the size given.
        return unsafe bytes.withUnsafeMutableBytes { buffer in
            let room = buffer.count - position
            let target = unsafe room > 0 ? buffer.baseAddress?.advanced(by: position) : nil
            return unsafe fuse_add_direntry(
                request,
                target?.assumingMemoryBound(to: CChar.self),
                room,
                entry.name,
                &attributes,
                off_t(offset)
            )
        }
    }

    /// What asks libfuse to tell when a signal interrupts the caller.
    var interruptRegistration: InterruptRegistration { unsafe InterruptRegistration(request) }

    /// A reply that can't be delivered means that the caller or the mount is gone: nobody is left to be told.
    private func sent(_ result: Int32) {}
}

/// Lets an interrupt of one request reach its file. Only usable while nobody can answer the request.
@safe
struct InterruptRegistration {
    private let request: fuse_req_t

    @unsafe
    init(_ request: fuse_req_t) { unsafe self.request = request }

    /// An interrupt that has already come is told before this returns, with the request locked: it must not be
    /// answered then (see `PendingReplies`).
    func register(_ file: FileHandleID) {
        // SAFETY: the request isn't answered yet, by contract; the "pointer" is a number that is never dereferenced.
        unsafe fuse_req_interrupt_func(request, fuseInterrupted, UnsafeMutableRawPointer(bitPattern: file.bits))
    }
}

/// A name in a directory listing.
struct DirectoryEntry {
    let name: String
    let inode: NodeID
    /// The file type bits of `st_mode`.
    let kind: mode_t
}
