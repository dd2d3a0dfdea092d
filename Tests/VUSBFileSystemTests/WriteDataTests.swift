// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@testable import VUSBFileSystem

@Suite("The bytes of a write")
struct WriteDataTests {
    /// Calls `body` with `count` bytes that lie behind a header in a reader's request buffer, as libfuse has them.
    private func withRequest(_ count: Int, pool: BufferPool, _ body: (borrowing WriteData, [UInt8]) -> Void) {
        let request = RequestBuffer(pool: pool)
        // A FUSE write's header: 40 + 40 bytes.
        let headerSize = 80
        guard let base = unsafe request.start() else {
            Issue.record("no memory")
            return
        }
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        unsafe (base + headerSize).copyMemory(from: bytes, byteCount: count)
        let source = unsafe UnsafeRawBufferPointer(start: base + headerSize, count: count)
        body(unsafe WriteData(source, in: request), bytes)
    }

    private func bytes(_ buffer: consuming TransferBuffer?, count: Int) -> [UInt8]? {
        guard let buffer else { return nil }
        return buffer.withBytes(count: count) { span in
            var bytes: [UInt8] = []
            for index in span.indices { bytes.append(span[index]) }
            return bytes
        }
    }

    @Test(
        "outlive the request, small ones by a copy, large ones with its buffer",
        arguments: [1, 512, 32_768, 32_769, 524_288])
    func outlive(count: Int) {
        let pool = BufferPool()
        withRequest(count, pool: pool) { data, expected in
            let announced = data.count
            #expect(announced == count)
            let kept = bytes(data.transferBuffer(from: pool), count: count)
            #expect(kept == expected)
        }
        #expect(pool.outstanding == 0)
    }

    @Test("without a header that is skipped are the rest", arguments: [8, 40_000])
    func skipping(count: Int) {
        let pool = BufferPool()
        withRequest(count, pool: pool) { data, expected in
            let rest = bytes(data.transferBuffer(skipping: 8, from: pool), count: count - 8)
            #expect(rest == Array(expected.dropFirst(8)))
        }
        #expect(pool.outstanding == 0)
    }

    @Test("a prefix is never longer than they are")
    func prefix() {
        let pool = BufferPool()
        withRequest(7, pool: pool) { data, expected in
            let (whole, part) = (data.prefix(8), data.prefix(3))
            #expect(whole == expected)
            #expect(part == Array(expected.prefix(3)))
        }
        #expect(pool.outstanding == 0)
    }

    @Test("none at all give a buffer of no bytes")
    func empty() {
        let pool = BufferPool()
        let data = unsafe WriteData(UnsafeRawBufferPointer(start: nil, count: 0), in: nil)
        let kept = bytes(data.transferBuffer(from: pool), count: 0)
        #expect(kept == [])
        #expect(pool.outstanding == 0)
    }
}
