// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// Memory that libusbredirparser got from malloc(3) and gave away.
@safe
struct RedirBytes: ~Copyable, @unchecked Sendable {
    // SAFETY: this value is its only owner.
    let start: UnsafeMutablePointer<UInt8>
    let count: Int

    @unsafe
    init(owning start: UnsafeMutablePointer<UInt8>, count: Int) {
        unsafe self.start = start
        self.count = count
    }

    /// Nil where there is no memory.
    init?(copying header: RedirHeader) {
        guard let memory = unsafe malloc(max(1, header.count)) else { return nil }
        let start = unsafe memory.assumingMemoryBound(to: UInt8.self)
        // SAFETY: the memory has room for `count` bytes.
        for index in 0..<header.count { unsafe start[index] = header.bytes[index] }
        unsafe self.init(owning: start, count: header.count)
    }

    deinit { unsafe free(start) }

    /// The memory is the caller's from now on.
    @unsafe
    consuming func release() -> UnsafeMutablePointer<UInt8> {
        let start = unsafe start
        discard self
        return unsafe start
    }

    /// The data of a packet as a transfer's buffer, without a copy; nil where there are none.
    @unsafe
    static func transferBuffer(_ data: UnsafeMutablePointer<UInt8>?, _ count: Int32) -> TransferBuffer? {
        guard let data = unsafe data else { return nil }
        return unsafe MallocMemory.buffer(owning: UnsafeMutableRawPointer(data), count: Int(count))
    }
}
