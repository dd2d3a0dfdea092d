// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Buffers")
struct BufferTests {
    @Test(
        "A buffer holds what was asked for, rounded up to its class",
        arguments: [
            (0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (65536, 65536), (65537, 131_072), (524_288, 524_288),
            (1 << 20, 1 << 20), ((1 << 20) + 1, 1 << 21), (1 << 21, 1 << 21),
        ]
    )
    func capacities(count: Int, capacity: Int) {
        let pool = BufferPool()
        #expect(pool.take(count)?.capacity == capacity)
        #expect(pool.outstanding == 0)
    }

    @Test(arguments: [-1, Int.min, (1 << 21) + 1, Int.max])
    func impossibleSizeIsRefused(count: Int) {
        let pool = BufferPool()
        if let buffer = pool.take(count) { Issue.record("a buffer of \(buffer.capacity) bytes") }
        #expect(pool.outstanding == 0)
    }

    @Test func buffersArePageAlignedAndApart() throws {
        let pool = BufferPool()
        guard let first = pool.take(100), let second = pool.take(100) else {
            Issue.record("no buffer")
            return
        }
        #expect(pool.outstanding == 2)
        // SAFETY: only the addresses are looked at.
        let addresses = unsafe [UInt(bitPattern: first.baseAddress), UInt(bitPattern: second.baseAddress)]
        #expect(addresses[0] != addresses[1])
        #expect(addresses.allSatisfy { $0 % UInt(BufferPool.pageSize) == 0 })
        _ = consume first
        #expect(pool.outstanding == 1)
        _ = consume second
        #expect(pool.outstanding == 0)
    }

    private func address(_ pool: BufferPool, _ count: Int) -> UInt? {
        guard let buffer = pool.take(count) else { return nil }
        // SAFETY: only the address is looked at.
        return unsafe UInt(bitPattern: buffer.baseAddress)
    }

    @Test func returnedBufferIsTakenAgain() {
        let pool = BufferPool()
        let first = address(pool, 5000)
        #expect(address(pool, 8192) == first)
        #expect(first != nil)
    }

    @Test func retiredPoolKeepsNothingAndStillGives() {
        let pool = BufferPool()
        let kept = pool.take(1)
        pool.retire()
        let more = pool.take(1)
        #expect(pool.outstanding == 2)
        _ = consume kept
        _ = consume more
        #expect(pool.outstanding == 0)
    }

    @Test func bytesAreWrittenAndReadBack() {
        let pool = BufferPool()
        guard var buffer = pool.take(16) else {
            Issue.record("no buffer")
            return
        }
        buffer.copy([1, 2, 3, 4])
        buffer.copy([9], at: 2)
        buffer.withMutableBytes(count: 4) { span in span[0] = 7 }
        let sum = buffer.withBytes(count: 4) { span in
            var digits = 0
            for index in span.indices { digits = digits * 10 + Int(span[index]) }
            return digits
        }
        #expect(sum == 7294)
    }

    @Test func narrowedBufferBeginsLaterAndGoesBackWhole() {
        let pool = BufferPool()
        let first = address(pool, 1)
        if var buffer = pool.take(1) {
            buffer.copy([1, 2, 3, 4])
            buffer.narrow(skipping: 2, capacity: 2)
            #expect(buffer.capacity == 2)
            let byte = buffer.withBytes(count: 2) { $0[0] }
            #expect(byte == 3)
        }
        #expect(address(pool, 1) == first)
        #expect(pool.outstanding == 0)
    }

    @Test func cacheLimitIsKept() {
        // Room for one page: the second one goes back to the system, and all is well with both.
        let pool = BufferPool(cacheLimit: 4096)
        let first = pool.take(1)
        let second = pool.take(1)
        _ = consume first
        _ = consume second
        #expect(pool.outstanding == 0)
        #expect(pool.take(1)?.capacity == 4096)
    }

    @Test(.timeLimit(.minutes(1)))
    func threadsShareAPool() async {
        let pool = BufferPool()
        await Threads.run(4) { index in
            for round in 0..<500 {
                var buffer = pool.take(1 << (round % 18))
                let mark = UInt8(truncatingIfNeeded: index)
                buffer?.withMutableBytes(count: 1) { span in span[0] = mark }
                Threads.yield()
                let seen = buffer?.withBytes(count: 1) { $0[0] }
                if seen != mark { Issue.record("a buffer was shared") }
            }
        }
        #expect(pool.outstanding == 0)
    }
}

@Suite("Isochronous packets")
struct IsoPacketTableTests {
    @Test(arguments: [1, 2, 128, 1024])
    func packetsAreKept(count: Int) {
        let pool = BufferPool()
        guard var table = IsoPacketTable(count: count, from: pool) else {
            Issue.record("no table")
            return
        }
        #expect(table.count == count)
        #expect(table[count - 1] == IsoPacket(offset: 0, length: 0))
        let packet = IsoPacket(offset: 5, length: 7, actualLength: 3, status: .stall)
        table[count - 1] = packet
        #expect(table[count - 1] == packet)
        _ = consume table
        #expect(pool.outstanding == 0)
    }

    @Test(arguments: [0, -1, 1025, Int.max])
    func impossibleCountIsRefused(count: Int) {
        let pool = BufferPool()
        if let table = IsoPacketTable(count: count, from: pool) { Issue.record("a table of \(table.count)") }
        #expect(pool.outstanding == 0)
    }
}
