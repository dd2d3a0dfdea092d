// SPDX-License-Identifier: Apache-2.0

/// Bytes of something of a known length that is cut anywhere, until they're all there.
struct USBIPScratch {
    private var bytes: [UInt8] = []

    init() { bytes.reserveCapacity(USBIPNumbers.headerBytes) }

    /// Hands the next `count` bytes to `body` when they're all there.
    /// - Parameter position: moved behind what was taken.
    /// - Returns: nil where some haven't come; they're kept.
    mutating func whole<Result, Failure>(
        _ count: Int, of next: RawSpan, at position: inout Int,
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        if bytes.isEmpty, next.byteCount - position >= count {
            position += count
            return try body(next.extracting((position - count)..<position))
        }
        let taken = min(count - bytes.count, next.byteCount - position)
        for offset in position..<(position + taken) { bytes.append(next.byte(at: offset)) }
        position += taken
        guard bytes.count == count else { return nil }
        defer { bytes.removeAll(keepingCapacity: true) }
        // SAFETY: a view of bytes, for the call.
        return try body(unsafe bytes.span.bytes)
    }
}
