// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import VUSBCore

/// What Gadget Zero sends.
package enum Pattern: String, Sendable, CaseIterable, Hashable {
    case zeros
    /// Byte i of a packet is i mod 63.
    case mod63
}

/// Read-only memory full of a pattern, one block for each pattern and packet size, for as long as the process lives.
/// Since the pattern begins anew with every packet, the block can stand in for the buffer of any transfer: an IN
/// transfer of any length costs nothing.
@safe
struct PatternBlock: @unchecked Sendable {
    // SAFETY: mapped once, read-only from then on, never unmapped.
    private let memory: UnsafeMutableRawPointer

    static let byteCount = 1 << 20

    private struct Key: Hashable {
        let pattern: Pattern
        let packetSize: Int
    }

    private static let blocks = Mutex<[Key: PatternBlock]>([:])

    /// Nil where there is no memory.
    static func shared(_ pattern: Pattern, packetSize: Int) -> PatternBlock? {
        // Zeros are the same in packets of any size.
        let key = Key(pattern: pattern, packetSize: pattern == .zeros ? 0 : packetSize)
        if let block = blocks.withLock({ $0[key] }) { return block }
        guard let made = PatternBlock(pattern, packetSize: packetSize) else { return nil }
        // Two threads may both have made one: the first stays, the other's memory is given back.
        let other: PatternBlock? = blocks.withLock { blocks in
            if let other = blocks[key] { return other }
            blocks[key] = made
            return nil
        }
        guard let other else { return made }
        made.unmap()
        return other
    }

    private init?(_ pattern: Pattern, packetSize: Int) {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS
        guard let memory = unsafe mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, flags, -1, 0),
            unsafe memory != MAP_FAILED
        else { return nil }
        unsafe self.memory = memory
        // Zeros are written too: untouched pages are all the kernel's one page of zeros, which it looks up slowly, page by
        // page, when FUSE or a socket reads them (6 us more for 64 KiB).
        for index in 0..<Self.byteCount {
            let byte = pattern == .mod63 ? UInt8(index % packetSize % 63) : 0
            unsafe memory.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
        }
        // Writing into it is a defect: better a trap than another guest's transfer changed.
        unsafe mprotect(memory, Self.byteCount, PROT_READ)
    }

    private func unmap() { unsafe munmap(memory, Self.byteCount) }

    /// All of it, as the buffer of a transfer.
    func buffer() -> TransferBuffer {
        unsafe TransferBuffer(allocation: memory, capacity: Self.byteCount, sizeClass: 0, owner: nil)
    }

    /// Copies the first `count` bytes, at most `byteCount`, to `target`.
    @unsafe
    func copy(to target: UnsafeMutableRawPointer, count: Int) {
        unsafe target.copyMemory(from: memory, byteCount: min(count, Self.byteCount))
    }

    /// Whether `count` bytes, at most `byteCount`, are the pattern's.
    @unsafe
    func matches(_ bytes: UnsafeMutableRawPointer, count: Int) -> Bool {
        unsafe memcmp(bytes, memory, min(count, Self.byteCount)) == 0
    }
}
