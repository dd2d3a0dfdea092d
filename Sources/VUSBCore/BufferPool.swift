// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Page-aligned transfer buffers in size classes of powers of two, recycled.
///
/// Concurrency model: any thread takes and any thread returns; the free lists are behind one `Mutex`, which is never
/// held across `malloc` or `free`. Lock order: none, it is a leaf.
@safe
package final class BufferPool: TransferBufferOwner {
    package static let pageSize = 4096
    /// The smallest class is a page.
    private static let smallestShift = 12
    /// The largest holds a FUSE request of 1 MiB and its header page.
    private static let largestShift = 21

    @safe
    private struct FreeLists: @unchecked Sendable {
        // SAFETY: a pointer in here has no other owner.
        var byClass: [[UnsafeMutableRawPointer]]
        var cachedBytes = 0
        var outstanding = 0
    }

    private let state: Mutex<FreeLists>
    private let cacheLimit: Int

    /// - Parameter cacheLimit: bytes kept for reuse at most; what is returned beyond goes back to the system.
    package init(cacheLimit: Int = 8 << 20) {
        self.cacheLimit = cacheLimit
        var lists: [[UnsafeMutableRawPointer]] = unsafe []
        for _ in Self.smallestShift...Self.largestShift {
            var list: [UnsafeMutableRawPointer] = unsafe []
            unsafe list.reserveCapacity(64)
            unsafe lists.append(list)
        }
        state = unsafe Mutex(FreeLists(byClass: lists))
    }

    deinit {
        state.withLock { lists in
            unsafe lists.byClass.joined().forEach { unsafe $0.deallocate() }
        }
    }

    /// Buffers handed out and not yet returned. Zero when nothing is in flight: tests end with this.
    package var outstanding: Int { state.withLock { $0.outstanding } }

    /// A buffer of at least `count` bytes (its `capacity` is the class's size), or nil above 2 MiB.
    /// The content is whatever was in it.
    package func take(_ count: Int) -> TransferBuffer? {
        guard count >= 0, count <= 1 << Self.largestShift else { return nil }
        let sizeClass = Self.sizeClass(for: count)
        let size = 1 << (sizeClass + Self.smallestShift)
        let recycled: SendablePointer? = state.withLock { lists in
            lists.outstanding += 1
            guard let memory = unsafe lists.byClass[sizeClass].popLast() else { return nil }
            lists.cachedBytes -= size
            return unsafe SendablePointer(memory)
        }
        let memory =
            unsafe recycled?.pointer
            ?? UnsafeMutableRawPointer.allocate(byteCount: size, alignment: Self.pageSize)
        return unsafe TransferBuffer(allocation: memory, capacity: size, sizeClass: sizeClass, owner: self)
    }

    package func recycle(_ allocation: UnsafeMutableRawPointer, sizeClass: Int) {
        let size = 1 << (sizeClass + Self.smallestShift)
        let returned = unsafe SendablePointer(allocation)
        let kept = state.withLock { lists in
            lists.outstanding -= 1
            guard lists.cachedBytes + size <= cacheLimit else { return false }
            unsafe lists.byClass[sizeClass].append(returned.pointer)
            lists.cachedBytes += size
            return true
        }
        if !kept { unsafe allocation.deallocate() }
    }

    private static func sizeClass(for count: Int) -> Int {
        let shift = count <= pageSize ? smallestShift : Int.bitWidth - (count - 1).leadingZeroBitCount
        return shift - smallestShift
    }
}

/// Carries a pointer with a single owner through a lock.
@safe
private struct SendablePointer: @unchecked Sendable {
    // SAFETY: made and unwrapped within one function; never shared.
    let pointer: UnsafeMutableRawPointer
    @unsafe init(_ pointer: UnsafeMutableRawPointer) { unsafe self.pointer = pointer }
}
