// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// Memory for an IN transfer that is its answer at the same time: room for the header, then the data. It's lent to the
/// URB as its buffer; once that has ended and the header is there, it's sent from where it is.
///
/// Concurrency model: the loop's thread takes and lends; whoever's turn it is sends and releases, by `isTaken`; any
/// thread gives back, by `isLent`. The bytes are the URB's while it's lent, and the message's while that is sent.
@safe
final class USBIPMemory: TransferBufferOwner, @unchecked Sendable {
    // SAFETY: the loop's thread uses it while nobody has taken it, and from then on whose turn it is, until `release`. Its
    // storage never moves, since it isn't written through a `ByteBuffer` while it's shared, and never beyond its capacity.
    private var bytes: ByteBuffer
    private let base: UnsafeMutableRawPointer
    private let payloadCapacity: Int
    /// A transfer has it, from `take` to `release`: also one whose source has changed its buffer for another.
    private let isTaken = Atomic(false)
    private let isLent = Atomic(false)

    /// - Parameter sizeClass: the logarithm of its bytes.
    init(sizeClass: Int, _ allocator: ByteBufferAllocator) {
        bytes = allocator.buffer(capacity: 1 << sizeClass)
        // SAFETY: the storage lives as long as `bytes`.
        unsafe base = unsafe bytes.withVeryUnsafeMutableBytes { memory in
            guard let start = memory.baseAddress else { preconditionFailure("a buffer of bytes has a start") }
            return unsafe start
        }
        payloadCapacity = bytes.capacity - USBIPNumbers.headerBytes
    }

    static func sizeClass(_ count: Int) -> Int {
        Int.bitWidth - (max(1, count) + USBIPNumbers.headerBytes - 1).leadingZeroBitCount
    }

    /// It's the caller's until `release`, if nobody has it.
    @discardableResult
    func take() -> Bool {
        guard !isTaken.load(ordering: .acquiring), isIdle else { return false }
        isTaken.store(true, ordering: .relaxed)
        return true
    }

    /// Its transfer has been answered, or isn't to be.
    func release() { isTaken.store(false, ordering: .releasing) }

    /// Neither a URB nor NIO has it.
    private var isIdle: Bool {
        guard !isLent.load(ordering: .acquiring) else { return false }
        return bytes.modifyIfUniquelyOwned { $0.clear() } != nil
    }

    /// Once between `take` and `release`.
    func lend() -> TransferBuffer {
        isLent.store(true, ordering: .relaxed)
        return unsafe TransferBuffer(
            allocation: base, offset: USBIPNumbers.headerBytes, capacity: payloadCapacity, sizeClass: 0, owner: self)
    }

    func recycle(_ allocation: UnsafeMutableRawPointer, sizeClass: Int) { isLent.store(false, ordering: .releasing) }

    /// The answer, with data that are here already or are copied to here.
    /// - Parameters:
    ///   - data: that have come in; nil for none.
    ///   - count: of the data; at most what was asked for.
    /// - Returns: nil where something has it yet that mustn't see it change.
    func message(_ reply: USBIPReply, _ data: consuming TransferBuffer?, count: Int) -> ByteBuffer? {
        precondition(count >= 0 && count <= payloadCapacity)
        // SAFETY: `count` bytes are readable there, which `USBIPSession` has checked.
        let isHere = unsafe data?.baseAddress == base + USBIPNumbers.headerBytes
        if isHere {
            data = nil
        } else {
            guard isIdle else { return nil }
            let target = unsafe base + USBIPNumbers.headerBytes
            if let source = unsafe data?.baseAddress { unsafe target.copyMemory(from: source, byteCount: count) }
            data = nil
        }
        guard isIdle else { return nil }
        unsafe reply.store(
            to: UnsafeMutableRawBufferPointer(start: base, count: USBIPNumbers.headerBytes))
        bytes.moveWriterIndex(to: USBIPNumbers.headerBytes + count)
        return bytes
    }
}

/// The memory of a session. What it has made it keeps for reuse, up to a limit.
struct USBIPMemories {
    private let allocator: ByteBufferAllocator
    /// By size class.
    private var kept: [[USBIPMemory]] = Array(repeating: [], count: 64)
    /// Where to look first: what was lent last is free last.
    private var next: [Int] = Array(repeating: 0, count: 64)
    private var keptBytes = 0

    init(_ allocator: ByteBufferAllocator) { self.allocator = allocator }

    /// To be released.
    mutating func take(_ count: Int) -> USBIPMemory {
        let sizeClass = USBIPMemory.sizeClass(count)
        let total = kept[sizeClass].count
        for _ in 0..<total {
            let index = next[sizeClass]
            next[sizeClass] = index + 1 == total ? 0 : index + 1
            if kept[sizeClass][index].take() { return kept[sizeClass][index] }
        }
        let made = USBIPMemory(sizeClass: sizeClass, allocator)
        made.take()
        if keptBytes + 1 << sizeClass <= USBIPLimits.memoryKept {
            keptBytes += 1 << sizeClass
            kept[sizeClass].append(made)
            next[sizeClass] = 0
        }
        return made
    }
}
