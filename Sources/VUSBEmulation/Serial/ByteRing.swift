// SPDX-License-Identifier: Apache-2.0

/// A bounded queue of bytes that takes no memory before its first byte and grows to what was in it at once.
struct ByteRing: Sendable {
    private var storage: [UInt8] = []
    private var head = 0
    private(set) var count = 0
    let limit: Int

    private static let initialCapacity = 1024

    /// - Parameter limit: bytes at most.
    init(limit: Int) { self.limit = limit }

    var room: Int { limit - count }

    /// Adds the bytes of `source`, as many as there's room for.
    /// - Returns: how many.
    @unsafe
    mutating func append(_ source: UnsafeRawPointer, count wanted: Int) -> Int {
        let added = min(max(0, wanted), room)
        guard added > 0 else { return 0 }
        reserve(count + added)
        let capacity = storage.count
        let tail = (head + count) % capacity
        let first = min(added, capacity - tail)
        unsafe storage.withUnsafeMutableBytes { bytes in
            // SAFETY: tail + first <= capacity, and what wraps around ends before head.
            guard let base = bytes.baseAddress else { return }
            unsafe (base + tail).copyMemory(from: source, byteCount: first)
            unsafe base.copyMemory(from: source + first, byteCount: added - first)
        }
        count += added
        return added
    }

    /// Moves up to `wanted` bytes to `target`.
    /// - Returns: how many.
    @unsafe
    mutating func remove(to target: UnsafeMutableRawPointer, count wanted: Int) -> Int {
        let removed = min(max(0, wanted), count)
        guard removed > 0 else { return 0 }
        let capacity = storage.count
        let first = min(removed, capacity - head)
        unsafe storage.withUnsafeBytes { bytes in
            // SAFETY: head + first <= capacity; the rest begins at 0.
            guard let base = bytes.baseAddress else { return }
            unsafe target.copyMemory(from: base + head, byteCount: first)
            unsafe (target + first).copyMemory(from: base, byteCount: removed - first)
        }
        head = (head + removed) % capacity
        count -= removed
        return removed
    }

    private mutating func reserve(_ needed: Int) {
        guard needed > storage.count else { return }
        var capacity = max(Self.initialCapacity, storage.count)
        while capacity < needed { capacity *= 2 }
        var larger: [UInt8] = []
        larger.reserveCapacity(capacity)
        for index in 0..<count { larger.append(storage[(head + index) % storage.count]) }
        larger.append(contentsOf: repeatElement(0, count: capacity - count))
        storage = larger
        head = 0
    }
}
