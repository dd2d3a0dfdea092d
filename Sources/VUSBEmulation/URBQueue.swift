// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// A URB that waits at an endpoint, and how far it has come.
struct QueuedURB: ~Copyable, Sendable {
    var urb: URB
    /// Bytes moved so far.
    var moved = 0
    /// When it ends, in nanoseconds of the monotonic clock: isochronous only, 0 before it began.
    var due: UInt64 = 0

    init(_ urb: consuming URB) { self.urb = urb }

    consuming func complete(_ status: URBStatus) {
        let moved = moved
        urb.complete(status, actualLength: moved)
    }
}

/// URBs of one endpoint in their order: a ring that grows to what waits at once, since arrays can't hold what can't
/// be copied. It takes no memory before its first URB and gives back what a burst took once it's empty.
@safe
struct URBQueue: ~Copyable, @unchecked Sendable {
    // SAFETY: the memory belongs to this value alone; slots head..<head+count (modulo capacity) are initialised.
    private var slots: UnsafeMutablePointer<QueuedURB>?
    private var capacity = 0
    private var head = 0
    private(set) var count = 0

    private static let initialCapacity = 4
    private static let keptCapacity = 64

    init() {}

    deinit {
        var index = 0
        while index < count {
            // SAFETY: an initialised slot, by the invariant above.
            unsafe slots?.advanced(by: (head + index) % capacity).deinitialize(count: 1)
            index += 1
        }
        unsafe slots?.deallocate()
    }

    var isEmpty: Bool { count == 0 }

    mutating func append(_ urb: consuming QueuedURB) {
        reserveOne()
        // SAFETY: reserveOne left room, so the slot behind the last one is uninitialised.
        unsafe slots?.advanced(by: (head + count) % capacity).initialize(to: urb)
        count += 1
    }

    mutating func prepend(_ urb: consuming QueuedURB) {
        reserveOne()
        head = (head + capacity - 1) % capacity
        // SAFETY: reserveOne left room, so the slot before the first one is uninitialised.
        unsafe slots?.advanced(by: head).initialize(to: urb)
        count += 1
    }

    mutating func removeFirst() -> QueuedURB? {
        guard count > 0, let slots = unsafe slots else { return nil }
        // SAFETY: the head is initialised; the counters forget it.
        let first = unsafe slots.advanced(by: head).move()
        head = (head + 1) % capacity
        count -= 1
        releaseBurst()
        return first
    }

    /// Takes the one with `token` from wherever it is.
    mutating func remove(_ token: URBToken) -> QueuedURB? {
        guard let slots = unsafe slots else { return nil }
        for index in 0..<count where unsafe slots[(head + index) % capacity].urb.token == token {
            // SAFETY: initialised; those behind it move up by one, so that the range stays whole.
            let found = unsafe slots.advanced(by: (head + index) % capacity).move()
            for next in index + 1..<max(count, index + 1) {
                let target = unsafe slots.advanced(by: (head + next - 1) % capacity)
                unsafe target.moveInitialize(from: slots.advanced(by: (head + next) % capacity), count: 1)
            }
            count -= 1
            return found
        }
        return nil
    }

    /// Moves all to the end of `other`.
    mutating func moveAll(to other: inout URBQueue) {
        while let first = removeFirst() { other.append(first) }
    }

    private mutating func reserveOne() {
        guard count == capacity else { return }
        let larger = max(Self.initialCapacity, capacity * 2)
        let memory = UnsafeMutablePointer<QueuedURB>.allocate(capacity: larger)
        if let slots = unsafe slots {
            for index in 0..<count {
                // SAFETY: from an initialised slot to one that isn't.
                let source = unsafe slots.advanced(by: (head + index) % capacity)
                unsafe memory.advanced(by: index).moveInitialize(from: source, count: 1)
            }
            unsafe slots.deallocate()
        }
        unsafe slots = memory
        capacity = larger
        head = 0
    }

    private mutating func releaseBurst() {
        guard count == 0, capacity > Self.keptCapacity else { return }
        unsafe slots?.deallocate()
        unsafe slots = nil
        capacity = 0
        head = 0
    }
}
