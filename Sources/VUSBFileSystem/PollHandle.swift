// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc

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

/// Bits of poll(2), as FUSE carries them.
enum PollEvents {
    static let readable = UInt32(POLLIN | Int32(POLLRDNORM))
    static let writable = UInt32(POLLOUT | Int32(POLLWRNORM))
    static let gone = UInt32(POLLERR | POLLHUP)
}
