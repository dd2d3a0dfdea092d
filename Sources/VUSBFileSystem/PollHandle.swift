// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import Synchronization

/// A poller that waits for a change: told once, then gone.
@safe
struct PollHandle: ~Copyable, @unchecked Sendable {
    // SAFETY: libfuse lets any thread notify; this value is the only way to the handle.
    private let handle: OpaquePointer

    @unsafe
    init(_ handle: OpaquePointer) { unsafe self.handle = handle }

    deinit { unsafe fuse_pollhandle_destroy(handle) }

    /// Has the kernel poll again.
    consuming func notify() {
        // A failure means that nobody polls any more.
        unsafe fuse_lowlevel_notify_poll(handle)
    }
}

/// The poller of one open file, the last one to come.
///
/// Concurrency model: a reader thread replaces it *before* it looks whether there is something to tell; whoever changes
/// something takes it *after* the change: so none is missed. One `Mutex`, a leaf; a handle's life ends outside of it.
final class Poller: Sendable {
    private let handle = Mutex<PollHandle?>(nil)

    func replace(_ new: consuming sending PollHandle?) {
        var new: PollHandle? = consume new
        let old = handle.withLock { handle in
            let old = handle.take()
            handle = new.take()
            return old
        }
        _ = consume old
    }

    func notify() {
        if let handle = handle.withLock({ $0.take() }) { handle.notify() }
    }
}

/// Bits of poll(2), as FUSE carries them.
enum PollEvents {
    static let readable = UInt32(POLLIN | Int32(POLLRDNORM))
    static let writable = UInt32(POLLOUT | Int32(POLLWRNORM))
    static let gone = UInt32(POLLERR | POLLHUP)
}
