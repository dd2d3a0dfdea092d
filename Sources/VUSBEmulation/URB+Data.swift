// SPDX-License-Identifier: Apache-2.0

import VUSBCore

extension URB {
    /// Copies the first of `bytes` into the buffer at `position`, as many as fit in what was asked for.
    /// - Returns: how many.
    mutating func write(_ bytes: [UInt8], at position: Int = 0) -> Int {
        let room = min(requestedLength, bufferCapacity) - position
        let count = min(bytes.count, room)
        guard position >= 0, count > 0 else { return 0 }
        unsafe bytes.withUnsafeBytes { source in
            // SAFETY: count is at most the source's and, by `room`, what is left in the buffer.
            if let base = source.baseAddress { unsafe buffer?.copyMemory(from: base, count: count, at: position) }
        }
        return count
    }

    /// A copy of the bytes asked for, as far as the buffer has them.
    borrowing func bytes(from start: Int = 0) -> [UInt8] {
        let end = min(requestedLength, bufferCapacity)
        guard start >= 0, start < end else { return [] }
        return unsafe [UInt8](unsafeUninitializedCapacity: end - start) { target, count in
            // SAFETY: start..<end lies in the buffer; the array gives room for as many.
            guard let base = target.baseAddress, let source = unsafe memory else { return }
            unsafe UnsafeMutableRawPointer(base).copyMemory(from: source + start, byteCount: end - start)
            count = end - start
        }
    }

    /// The buffer's first byte, nil without a buffer. Only valid while this URB lives.
    var memory: UnsafeMutableRawPointer? {
        @unsafe get {
            switch buffer {
            case .some(let buffer): unsafe buffer.baseAddress
            case .none: nil
            }
        }
    }
}
