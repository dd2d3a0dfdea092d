// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Both directions are streams of bytes: where a read or a write begins and ends means nothing.
@Suite("The channel's streams")
struct HCDStreamTests {
    typealias Rig = HCDURBTests.Rig

    private func rig() throws -> Rig {
        let setup = SetupPacket(bmRequestType: 1, bRequest: 11, wValue: 1, wIndex: 0, wLength: 0)
        let rig = try Rig(
            ScriptedBackend([
                .submit(.any, .complete()),
                .submit(Submit(endpoint: .control, bytes: [1, 2, 3, 4, 5]), .complete()),
                .submit(.out(0x02, HCDBytes.pattern(100)), .complete()),
                .submit(.in(0x81, 64), .complete(data: HCDBytes.pattern(33))),
                .submit(.out(0x02, []), .complete()),
                .submit(.out(0x04, HCDBytes.pattern(7)), .complete()),
            ]))
        rig.guest.send(HCDBytes.control(HCDBytes.id(1000), setup))
        _ = rig.guest.receive()
        return rig
    }

    private typealias Submit = ScriptedBackend.Submit

    private func expectAnswers(_ answers: [HCDGuest.Received]) {
        #expect(answers.map(\.kind) == [.complete, .complete, .complete, .pong, .complete, .complete])
        let ids = [HCDBytes.id(0), HCDBytes.id(1), HCDBytes.id(2), 9, HCDBytes.id(3), HCDBytes.id(4)]
        #expect(answers.map(\.record.id) == ids)
        #expect(answers.map(\.payload.count) == [0, 0, 33, 0, 0, 24])
        #expect(answers[2].payload == HCDBytes.pattern(33))
    }

    @Test("a write is carried out wherever it's cut", arguments: 1..<HCDSampleStream.bytes.count)
    func cut(position: Int) throws {
        let rig = try rig()
        #expect(rig.guest.send(Array(HCDSampleStream.bytes[..<position])) == 0)
        #expect(rig.guest.send(Array(HCDSampleStream.bytes[position...])) == 0)
        expectAnswers(rig.guest.receive())
        rig.verifyNothingLeft()
    }

    @Test("so is one that comes in small pieces", arguments: [1, 2, 3, 7, 8, 13, 48, 49])
    func pieces(size: Int) throws {
        let rig = try rig()
        for start in stride(from: 0, to: HCDSampleStream.bytes.count, by: size) {
            #expect(
                rig.guest.send(Array(HCDSampleStream.bytes[start..<min(start + size, HCDSampleStream.bytes.count)]))
                    == 0)
        }
        expectAnswers(rig.guest.receive())
        rig.verifyNothingLeft()
    }

    @Test("reads may be of any size", arguments: [1, 2, 5, 8, 47, 48, 49, 100, 4096])
    func reads(size: Int) throws {
        let rig = try rig()
        rig.guest.send(HCDSampleStream.bytes)
        expectAnswers(rig.guest.receive(size: size))
        rig.verifyNothingLeft()
    }

    @Test("large data are cut by reads and come whole", arguments: [1000, 4096, 65_536, 524_288])
    func largeIn(size: Int) throws {
        let data = HCDBytes.pattern(300_001)
        let rig = try Rig(ScriptedBackend(always: .complete(data: data)))
        for slot in 0..<3 { rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(slot), 1 << 20)) }
        let answers = rig.guest.receive(size: size)
        #expect(answers.map(\.payload) == [data, data, data])
        rig.verifyNothingLeft()
    }

    @Test("large data are cut by writes and reach the device whole", arguments: [4095, 65_536, 300_000, 400_000])
    func largeOut(size: Int) throws {
        let data = HCDBytes.pattern(300_001)
        let rig = try Rig(ScriptedBackend([.submit(.out(0x02, data), .complete())]))
        let bytes = HCDBytes.bulkOut(HCDBytes.id(0), data)
        for start in stride(from: 0, to: bytes.count, by: size) {
            #expect(rig.guest.send(Array(bytes[start..<min(start + size, bytes.count)])) == 0)
        }
        #expect(rig.guest.receive().map(\.record.complete.actualLength) == [300_001])
        rig.verifyNothingLeft()
    }

    @Test(
        "large data at the end of a write keep the buffer that they were read into; the stream goes on in the next one")
    func keptBuffer() throws {
        let data = HCDBytes.pattern(300_001)
        let rig = try Rig(
            ScriptedBackend([.submit(.out(0x02, data), .complete()), .submit(.out(0x02, [7]), .complete())]))
        let pool = BufferPool()
        let request = RequestBuffer(pool: pool)
        let bytes = HCDBytes.bulkOut(HCDBytes.id(0), data)
        let base = try unsafe #require(request.start())
        unsafe base.copyMemory(from: bytes, byteCount: bytes.count)
        let source = unsafe UnsafeRawBufferPointer(start: base, count: bytes.count)
        #expect(rig.guest.session.write(unsafe WriteData(source, in: request)) == 0)
        // Nothing was copied: the URB had the one buffer that there is.
        #expect(pool.outstanding == 0)
        rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(1), [7]))
        #expect(rig.guest.receive().map(\.status) == [0, 0])
        rig.verifyNothingLeft()
    }

    @Test("records after large data in one write aren't read from a buffer that was given away")
    func notKept() throws {
        let data = HCDBytes.pattern(300_001)
        let rig = try Rig(
            ScriptedBackend([.submit(.out(0x02, data), .complete()), .submit(.out(0x02, [7]), .complete())]))
        let pool = BufferPool()
        let request = RequestBuffer(pool: pool)
        let bytes = HCDBytes.bulkOut(HCDBytes.id(0), data) + HCDBytes.bulkOut(HCDBytes.id(1), [7])
        let base = try unsafe #require(request.start())
        unsafe base.copyMemory(from: bytes, byteCount: bytes.count)
        let source = unsafe UnsafeRawBufferPointer(start: base, count: bytes.count)
        #expect(rig.guest.session.write(unsafe WriteData(source, in: request)) == 0)
        #expect(pool.outstanding == 1)
        #expect(rig.guest.receive().map(\.status) == [0, 0])
        rig.verifyNothingLeft()
    }

    @Test("as many completions as fit come with one read")
    func batch() throws {
        let rig = try Rig(ScriptedBackend(always: .complete(data: HCDBytes.pattern(8))))
        for slot in 0..<60 { rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(slot), 8)) }
        #expect(rig.guest.read()?.count == 60 * 56)
        #expect(rig.guest.read() == nil)
        rig.verifyNothingLeft()
    }

    @Test("1,000 URBs that were never read before come in order, in as many reads as it takes")
    func manyUnread() throws {
        let rig = try Rig(ScriptedBackend(always: .complete(data: HCDBytes.pattern(600))))
        for slot in 0..<1000 { rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(slot), 600)) }
        let answers = rig.guest.receive()
        #expect(answers.map(\.record.id) == (0..<1000).map { HCDBytes.id($0) })
        #expect(answers.allSatisfy { $0.payload == HCDBytes.pattern(600) })
        rig.verifyNothingLeft()
    }

    @Test("packet tables fill an answer: what doesn't fit comes with the next read")
    func largeTables() throws {
        let backend = ScriptedBackend(always: .run { $0.completeIsochronous([]) })
        let rig = try Rig(backend)
        let setup = SetupPacket(bmRequestType: 1, bRequest: 11, wValue: 1, wIndex: 0, wLength: 0)
        rig.guest.send(HCDBytes.control(HCDBytes.id(1000), setup))
        _ = rig.guest.receive()
        let lengths = [UInt32](repeating: 1, count: 1024)
        for slot in 0..<20 { rig.guest.send(HCDBytes.isochronous(HCDBytes.id(slot), endpoint: 0x83, lengths: lengths)) }
        let answers = rig.guest.receive()
        #expect(answers.map(\.payload.count) == Array(repeating: 12 * 1024, count: 20))
        rig.verifyNothingLeft()
    }

    @Test("a read of any size finds records of all sizes", arguments: 0..<20)
    func randomReads(seed: UInt64) throws {
        var random = Random(seed)
        let rig = try Rig(ScriptedBackend(always: .run { $0.complete(data: HCDBytes.pattern($0.requestedLength)) }))
        var expected: [Int] = []
        var bytes: [UInt8] = []
        for slot in 0..<100 {
            let size = Int.random(in: 0...2000, using: &random)
            expected.append(size)
            rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(slot), size))
            if Bool.random(using: &random), let read = rig.guest.read(Int.random(in: 1...5000, using: &random)) {
                bytes += read
            }
        }
        while let read = rig.guest.read(Int.random(in: 1...5000, using: &random)) { bytes += read }
        var position = 0
        for size in expected {
            let record = HCDBytes.record(in: bytes, at: position)
            #expect(record.size == UInt32(48 + size))
            #expect(Array(bytes[(position + 48)..<(position + 48 + size)]) == HCDBytes.pattern(size))
            position += 48 + size + HCDRecord.padding(48 + size)
        }
        #expect(position == bytes.count)
        rig.verifyNothingLeft()
    }
}

enum HCDSampleStream {
    /// Transfers of all kinds, without a gap.
    static let bytes =
        HCDBytes.control(
            HCDBytes.id(0), SetupPacket(bmRequestType: 0x40, bRequest: 0x5b, wValue: 0, wIndex: 0, wLength: 5),
            [1, 2, 3, 4, 5])
        + HCDBytes.bulkOut(HCDBytes.id(1), HCDBytes.pattern(100)) + HCDBytes.bulkIn(HCDBytes.id(2), 64)
        + HCDBytes.record(HCDRecord(.ping, id: 9)) + HCDBytes.bulkOut(HCDBytes.id(3), [])
        + HCDBytes.isochronous(HCDBytes.id(4), endpoint: 0x04, lengths: [3, 4], data: HCDBytes.pattern(7))
}
