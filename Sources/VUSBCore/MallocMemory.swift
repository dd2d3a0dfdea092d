// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Transfer buffers of malloc(3)'s memory, which no pool keeps.
package enum MallocMemory {
    /// Nil where there is no memory.
    package static func buffer(_ count: Int) -> TransferBuffer? {
        guard count >= 0, let memory = unsafe malloc(max(1, count)) else { return nil }
        return unsafe TransferBuffer(allocation: memory, capacity: count, sizeClass: 0, owner: Owner.shared)
    }

    /// The memory is the buffer's from now on.
    @unsafe
    package static func buffer(owning memory: UnsafeMutableRawPointer, count: Int) -> TransferBuffer {
        unsafe TransferBuffer(allocation: memory, capacity: count, sizeClass: 0, owner: Owner.shared)
    }

    private final class Owner: TransferBufferOwner {
        static let shared = Owner()

        func recycle(_ allocation: UnsafeMutableRawPointer, sizeClass: Int) { unsafe free(allocation) }
    }
}
