// SPDX-License-Identifier: Apache-2.0

/// Where a `TransferBuffer`'s memory goes when its life ends.
package protocol TransferBufferOwner: AnyObject, Sendable {
    /// Takes back an allocation that this owner handed out. `sizeClass` is what it gave then.
    func recycle(_ allocation: UnsafeMutableRawPointer, sizeClass: Int)
}

/// Memory for the data of one transfer, owned by exactly one place at a time. Its end returns it to its owner.
///
/// Bytes of an IN transfer past `actualLength` are whatever was there before: never show them to anybody.
@safe
package struct TransferBuffer: ~Copyable, @unchecked Sendable {
    // SAFETY: the memory belongs to this value alone, from the owner's hand-out until deinit.
    private let allocation: UnsafeMutableRawPointer
    private var offset: Int
    private let sizeClass: Int
    private let owner: (any TransferBufferOwner)?

    /// Bytes that a transfer may use.
    package private(set) var capacity: Int

    /// - Parameters:
    ///   - allocation: memory of at least `offset + capacity` bytes.
    ///   - owner: gets the allocation back; nil for memory that lives as long as the process, which must then be
    ///     read-only for all who hold it.
    @unsafe
    package init(
        allocation: UnsafeMutableRawPointer,
        offset: Int = 0,
        capacity: Int,
        sizeClass: Int,
        owner: (any TransferBufferOwner)?
    ) {
        unsafe self.allocation = allocation
        self.offset = offset
        self.capacity = capacity
        self.sizeClass = sizeClass
        self.owner = owner
    }

    deinit {
        unsafe owner?.recycle(allocation, sizeClass: sizeClass)
    }

    /// The first byte. Valid until this value's life ends.
    package var baseAddress: UnsafeMutableRawPointer {
        // SAFETY: init's contract says that offset lies inside the allocation.
        @unsafe get { unsafe allocation + offset }
    }

    /// Calls `body` with the first `count` bytes.
    package borrowing func withBytes<Result>(count: Int, _ body: (Span<UInt8>) -> Result) -> Result {
        precondition(count >= 0 && count <= capacity)
        // SAFETY: count was checked; the memory lives through the call because self is borrowed.
        let start = unsafe baseAddress.assumingMemoryBound(to: UInt8.self)
        let buffer = unsafe UnsafeBufferPointer(start: start, count: count)
        return unsafe body(buffer.span)
    }

    /// Calls `body` with the first `count` bytes, to be written. Exclusive because the buffer has one owner.
    package mutating func withMutableBytes<Result>(
        count: Int,
        _ body: (inout MutableSpan<UInt8>) -> Result
    ) -> Result {
        precondition(count >= 0 && count <= capacity)
        // SAFETY: as in withBytes; `mutating` makes the access exclusive.
        let start = unsafe baseAddress.assumingMemoryBound(to: UInt8.self)
        var span = unsafe UnsafeMutableBufferPointer(start: start, count: count).mutableSpan
        return body(&span)
    }

    /// Copies `count` bytes from `source` to `at`. Traps where they don't fit: callers check what guests send.
    @unsafe
    package mutating func copyMemory(from source: UnsafeRawPointer, count: Int, at position: Int = 0) {
        precondition(position >= 0 && count >= 0 && position + count <= capacity)
        unsafe (baseAddress + position).copyMemory(from: source, byteCount: count)
    }

    /// Copies `bytes` to `position`; traps where they don't fit.
    package mutating func copy(_ bytes: [UInt8], at position: Int = 0) {
        // SAFETY: copyMemory checks the range; the array outlives the closure.
        unsafe bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { unsafe copyMemory(from: base, count: source.count, at: position) }
        }
    }

    /// Forgets the first `skipping` bytes and keeps `capacity` of those behind them. The whole allocation still goes
    /// back to its owner at the end.
    package mutating func narrow(skipping: Int, capacity: Int) {
        precondition(skipping >= 0 && capacity >= 0 && skipping + capacity <= self.capacity)
        offset += skipping
        self.capacity = capacity
    }
}
