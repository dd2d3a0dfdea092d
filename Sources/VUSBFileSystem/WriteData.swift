// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The bytes of one write request, valid while its handler runs.
@safe
struct WriteData: ~Copyable {
    // SAFETY: the bytes lie in the reader thread's request buffer, which outlives this value.
    private let bytes: UnsafeRawBufferPointer
    private let requestBuffer: RequestBuffer?

    /// A large write keeps the buffer that the request was read into, instead of copying out of it; below this size a
    /// copy costs less than holding a whole request buffer.
    static let copyLimit = 32 << 10

    @unsafe
    init(_ bytes: UnsafeRawBufferPointer, in requestBuffer: RequestBuffer?) {
        unsafe self.bytes = bytes
        self.requestBuffer = requestBuffer
    }

    var count: Int { unsafe bytes.count }

    /// A small, bounds-checked copy: for headers.
    func prefix(_ count: Int) -> [UInt8] { unsafe Array(bytes.prefix(count)) }

    /// Copies `count` bytes from `position` on to `target`. Traps where there are fewer.
    @unsafe
    borrowing func copy(from position: Int, count: Int, to target: UnsafeMutableRawPointer) {
        precondition(position >= 0 && count >= 0 && position + count <= self.count)
        guard let base = unsafe bytes.baseAddress, count > 0 else { return }
        unsafe target.copyMemory(from: base + position, byteCount: count)
    }

    /// The record that begins at `position`; nil where less than its fixed part is there.
    borrowing func record(at position: Int) -> HCDRecord? {
        guard let base = unsafe bytes.baseAddress, position >= 0, position + HCDRecord.byteCount <= count else {
            return nil
        }
        return unsafe HCDRecord(reading: base + position)
    }

    /// The bytes from `skipping` on, in a buffer that outlives the request. Nil where there is no memory.
    borrowing func transferBuffer(skipping: Int = 0, from pool: BufferPool) -> TransferBuffer? {
        transferBuffer(skipping: skipping, count: count - skipping, from: pool)
    }

    /// As above, of `length` bytes from `skipping` on. Nothing may be read from the request after it.
    borrowing func transferBuffer(skipping: Int, count length: Int, from pool: BufferPool) -> TransferBuffer? {
        guard let base = unsafe bytes.baseAddress, skipping >= 0, length >= 0, skipping + length <= count else {
            return pool.take(0)
        }
        if length > Self.copyLimit, let kept = unsafe requestBuffer?.keep(base + skipping, count: length) {
            return kept
        }
        guard var buffer = pool.take(length) else { return nil }
        unsafe buffer.copyMemory(from: base + skipping, count: length)
        return buffer
    }
}

/// The buffer that a reader thread reads its next request into. Only that thread touches it.
@safe
final class RequestBuffer {
    /// A write of 1 MiB and the header in front of it, which the kernel wants to have room for.
    static let capacity = (1 << 20) + BufferPool.pageSize

    private let pool: BufferPool
    private var current: TransferBuffer?

    init(pool: BufferPool) { self.pool = pool }

    /// Where to read to; nil where there is no memory.
    func start() -> UnsafeMutableRawPointer? {
        if current == nil { current = pool.take(Self.capacity) }
        return switch current {
        case .some(let buffer): unsafe buffer.baseAddress
        case .none: nil
        }
    }

    /// Hands the buffer over to whoever carries the write out, narrowed to its bytes. The next request gets another.
    @unsafe
    func keep(_ start: UnsafeRawPointer, count: Int) -> TransferBuffer? {
        guard var buffer = current.take() else { return nil }
        let offset = unsafe start - UnsafeRawPointer(buffer.baseAddress)
        guard offset >= 0, offset + count <= buffer.capacity else {
            current = consume buffer
            return nil
        }
        buffer.narrow(skipping: offset, capacity: count)
        return buffer
    }
}
