// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Where a `BufferPool` gets memory that isn't the process's ordinary one.
package protocol BufferMemory: AnyObject, Sendable {
    /// At least `byteCount` bytes, page-aligned; nil where there is none to be had now: ordinary memory serves then.
    func allocate(byteCount: Int) -> UnsafeMutableRawPointer?

    /// Takes back what `allocate` gave; false where it didn't come from here.
    func free(_ memory: UnsafeMutableRawPointer, byteCount: Int) -> Bool
}

/// Page-aligned transfer buffers in size classes of powers of two, recycled.
///
/// Concurrency model: any thread takes and any thread returns; the free lists are behind one `Mutex`, which is never
/// held across an allocation or its end. Lock order: none, it is a leaf.
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
        /// Bytes kept for reuse at most.
        var cacheLimit: Int
    }

    private let state: Mutex<FreeLists>
    private let memory: (any BufferMemory)?

    /// - Parameters:
    ///   - cacheLimit: bytes kept for reuse at most; what is returned beyond goes back to the system.
    ///   - memory: asked first; nil for ordinary memory only.
    package init(cacheLimit: Int = 8 << 20, memory: (any BufferMemory)? = nil) {
        self.memory = memory
        var lists: [[UnsafeMutableRawPointer]] = unsafe []
        for _ in Self.smallestShift...Self.largestShift {
            var list: [UnsafeMutableRawPointer] = unsafe []
            unsafe list.reserveCapacity(64)
            unsafe lists.append(list)
        }
        state = unsafe Mutex(FreeLists(byClass: lists, cacheLimit: cacheLimit))
    }

    deinit { retire() }

    /// Keeps nothing for reuse from now on: what it had goes back, and what is outstanding follows when returned.
    package func retire() {
        for sizeClass in 0...(Self.largestShift - Self.smallestShift) {
            while let cached = takeCached(sizeClass) {
                unsafe release(cached.pointer, byteCount: 1 << (sizeClass + Self.smallestShift))
            }
        }
    }

    private func takeCached(_ sizeClass: Int) -> SendablePointer? {
        state.withLock { lists in
            lists.cacheLimit = 0
            guard let memory = unsafe lists.byClass[sizeClass].popLast() else { return nil }
            lists.cachedBytes -= 1 << (sizeClass + Self.smallestShift)
            return unsafe SendablePointer(memory)
        }
    }

    private func release(_ pointer: UnsafeMutableRawPointer, byteCount: Int) {
        if unsafe memory?.free(pointer, byteCount: byteCount) == true { return }
        unsafe pointer.deallocate()
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
        let allocation =
            unsafe recycled?.pointer ?? memory?.allocate(byteCount: size)
            ?? UnsafeMutableRawPointer.allocate(byteCount: size, alignment: Self.pageSize)
        return unsafe TransferBuffer(allocation: allocation, capacity: size, sizeClass: sizeClass, owner: self)
    }

    /// As `take`, and above its limit ordinary memory, which isn't kept for reuse and not counted as outstanding.
    package func takeAny(_ count: Int) -> TransferBuffer? { take(count) ?? MallocMemory.buffer(count) }

    package func recycle(_ allocation: UnsafeMutableRawPointer, sizeClass: Int) {
        let size = 1 << (sizeClass + Self.smallestShift)
        let returned = unsafe SendablePointer(allocation)
        let kept = state.withLock { lists in
            lists.outstanding -= 1
            guard lists.cachedBytes + size <= lists.cacheLimit else { return false }
            unsafe lists.byClass[sizeClass].append(returned.pointer)
            lists.cachedBytes += size
            return true
        }
        if !kept { unsafe release(allocation, byteCount: size) }
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
