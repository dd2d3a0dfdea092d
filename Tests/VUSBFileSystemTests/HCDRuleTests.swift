// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// What a guest may not do, and what it can't do to anybody else. The rows are those of Channel.md.
@Suite("Rules of the channel")
struct HCDRuleTests {
    private typealias Rig = HCDURBTests.Rig

    /// The channel is broken, says so to reads and writes, and keeps nothing.
    private func expectBroken(_ rig: Rig, by bytes: [UInt8], _ comment: Comment? = nil) {
        #expect(rig.guest.send(bytes) == 71, comment)
        #expect(rig.guest.session.status.state == .broken, comment)
        #expect(rig.guest.readFailure() == 71, comment)
        #expect(rig.guest.send(HCDBytes.hello()) == 71, comment)
        rig.backend.completeAll(.cancelled)
        #expect(rig.device.inFlight == 0, comment)
        #expect(rig.device.pool.outstanding == 0, comment)
        #expect(rig.guest.session.status.urbsInFlight == 0, comment)
    }

    @Test("row C3: a submit on a slot that isn't free")
    func slotInUse() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(4), 8))
        expectBroken(rig, by: HCDBytes.bulkIn(HCDBytes.id(4, 2), 8))
    }

    @Test("row C3: a submit on a slot whose completion wasn't read")
    func slotUnread() throws {
        let rig = try Rig(ScriptedBackend(always: .complete()))
        rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(4), [1]))
        expectBroken(rig, by: HCDBytes.bulkOut(HCDBytes.id(4, 2), [1]))
    }

    @Test("row C3: the slot is free with the last byte of its completion, not before")
    func slotReadInPart() throws {
        let rig = try Rig(ScriptedBackend(always: .complete()))
        rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(4), [1]))
        #expect(rig.guest.read(47)?.count == 47)
        #expect(rig.guest.session.status.urbsInFlight == 1)
        #expect(rig.guest.read(1)?.count == 1)
        #expect(rig.guest.session.status.urbsInFlight == 0)
        #expect(rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(4, 2), [1])) == 0)
        _ = rig.guest.read()
        rig.verifyNothingLeft()
    }

    @Test("row C3: a submit on a slot beyond the hello's urbs")
    func slotBeyond() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        #expect(rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(1023), 8)) == 0)
        expectBroken(rig, by: HCDBytes.bulkIn(HCDBytes.id(1024), 8))
    }

    @Test("row C3: a submit beyond the hello's bytes")
    func bytesBeyond() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        for slot in 0..<16 { #expect(rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(slot), 1 << 20)) == 0) }
        #expect(rig.device.inFlight == 16)
        expectBroken(rig, by: HCDBytes.bulkIn(HCDBytes.id(16), 1))
    }

    @Test("row C4: a submit for a device that never was, is none, or is gone", arguments: [0, 2, 0xffff] as [UInt16])
    func noSuchDevice(handle: UInt16) throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        expectBroken(rig, by: HCDBytes.bulkIn(HCDBytes.id(1), 8, device: handle))
    }

    @Test("row C4: any record for a device that is gone", arguments: [4, 5, 7, 8] as [UInt16])
    func goneDevice(type: UInt16) throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.tree.tree.detach(path: "1-1", from: "web1")
        #expect(rig.guest.receive().map(\.kind) == [.remove])
        #expect(rig.guest.send(.removed, device: 1) == 0)
        var record = HCDRecord(.removed, device: 1, id: HCDBytes.id(0))
        record.type = type
        expectBroken(rig, by: HCDBytes.record(record))
    }

    @Test("row C11: a second reset before the first is done")
    func secondReset() async throws {
        let gate = Gate()
        let rig = try Rig(ScriptedBackend(always: .hold))
        let slow = SampleDevice.attach(SlowReset(gate), descriptors: rig.tree.record.descriptors)
        rig.guest.channel.attach(path: "1-2", slow)
        #expect(rig.guest.receive().map(\.kind) == [.added])
        #expect(rig.guest.send(.reset, device: 2, id: 1) == 0)
        expectBroken(rig, by: HCDBytes.record(HCDRecord(.reset, device: 2, id: 2)))
        gate.open()
        await slow.close()
    }

    @Test("row C12: a device is let go of with URBs in flight")
    func removedInFlight() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(1), 8))
        rig.tree.tree.detach(path: "1-1", from: "web1")
        expectBroken(rig, by: HCDBytes.record(HCDRecord(.removed, device: 1)))
    }

    @Test("a device is let go of, unasked")
    func removedUnasked() throws {
        expectBroken(try Rig(ScriptedBackend()), by: HCDBytes.record(HCDRecord(.removed, device: 1)))
    }

    @Test("row C14: sizes, lengths and tables that can't be", arguments: MalformedRecords.all.indices)
    func malformed(index: Int) throws {
        let (what, bytes) = MalformedRecords.all[index]
        expectBroken(try Rig(ScriptedBackend(always: .hold)), by: bytes, "\(what)")
    }

    @Test(
        "a hello that is none",
        arguments: [
            HCDBytes.hello { $0.magic = 0 }, HCDBytes.hello { $0.version = 0 },
            HCDBytes.hello(name: String(repeating: "x", count: 65)), HCDBytes.record(HCDRecord(.ping)),
        ])
    func badHello(bytes: [UInt8]) throws {
        let rig = try TreeRig()
        let guest = try HCDGuest(rig.tree, isGreeted: false)
        #expect(guest.send(bytes) == 71)
        #expect(guest.readFailure() == 71)
    }

    @Test("a newer guest is spoken to in the version that both know")
    func newerGuest() throws {
        let guest = try HCDGuest(try TreeRig().tree, isGreeted: false)
        #expect(guest.send(HCDBytes.hello { $0.version = 7 }) == 0)
        #expect(guest.receive().first?.record.hello.version == 1)
    }

    @Test("10,000 submits without a read end the channel, with no more held than the credit")
    func neverReads() throws {
        let rig = try Rig(ScriptedBackend(always: .complete(data: [1])))
        var sent = 0
        while sent < 10_000, rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(sent % 1024, UInt64(sent)), 64)) == 0 {
            sent += 1
        }
        #expect(sent == 1024)
        #expect(rig.device.pool.outstanding == 0)
        #expect(rig.guest.session.status.urbsInFlight == 0)
    }

    @Test("pings without a read end the channel")
    func pings() throws {
        let rig = try Rig(ScriptedBackend())
        for id in 0..<64 { #expect(rig.guest.send(.ping, id: UInt64(id)) == 0) }
        expectBroken(rig, by: HCDBytes.record(HCDRecord(.ping, id: 64)))
    }

    @Test("resets of a device that is removed, without a read, end the channel")
    func resets() throws {
        let rig = try Rig(ScriptedBackend())
        rig.tree.tree.detach(path: "1-1", from: "web1")
        var sent = 0
        while sent < 100_000, rig.guest.send(.reset, device: 1, id: UInt64(sent)) == 0 { sent += 1 }
        #expect(sent < 20_000)
        #expect(rig.guest.session.status.state == .broken)
    }

    @Test("a replayed stream is a rule broken, and nothing is submitted twice")
    func replay() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold), .cancel(.completeAsCancelled)]))
        let submit = HCDBytes.bulkIn(HCDBytes.id(1), 8)
        rig.guest.send(submit)
        expectBroken(rig, by: submit)
        #expect(rig.backend.verify() == [])
    }

    @Test("random bytes hurt nobody", arguments: 0..<50)
    func random(seed: UInt64) throws {
        var generator = Random(seed)
        let rig = try Rig(ScriptedBackend(always: .complete(data: [1, 2, 3])))
        for _ in 0..<40 {
            var bytes = (0..<Int.random(in: 1...200, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            // Half of them begin like a record.
            if Bool.random(using: &generator), bytes.count >= 8 {
                bytes[0] = 48 + bytes[0] % 16
                (bytes[1], bytes[2], bytes[3], bytes[5]) = (0, 0, 0, 0)
                (bytes[4], bytes[6], bytes[7]) = (bytes[4] % 18, bytes[6] % 3, 0)
            }
            rig.guest.send(bytes)
            _ = rig.guest.read(Int.random(in: 1...300, using: &generator))
        }
        rig.guest.close()
        #expect(rig.device.inFlight == 0)
        #expect(rig.device.pool.outstanding == 0)
        #expect(rig.guest.session.status.urbsInFlight == 0)
    }
}

/// Records that break row C14, or have no place in a guest's stream.
enum MalformedRecords {
    static let all: [(String, [UInt8])] = [
        ("size 0", sized(0)), ("size 47", sized(47)), ("size of 4 GiB", sized(.max)),
        ("a submit with less payload than its length", HCDBytes.submit(1, endpoint: 2, length: 9, payload: [1])),
        ("a submit with more payload than its length", HCDBytes.submit(1, endpoint: 2, length: 1, payload: [1, 2])),
        ("an IN submit with payload", HCDBytes.submit(1, endpoint: 0x81, length: 1, payload: [1])),
        ("data longer than max_transfer", HCDBytes.bulkIn(1, (1 << 20) + 1)),
        ("data of 4 GiB", HCDBytes.submit(1, endpoint: 0x81, length: Int(UInt32.max))),
        ("packets of a bulk transfer", HCDBytes.submit(1, endpoint: 0x81, length: 8) { $0.packets = 1 }),
        ("1,025 packets", HCDBytes.isochronous(1, endpoint: 0x83, lengths: Array(repeating: 0, count: 1025))),
        ("a table cut short", HCDBytes.submit(1, endpoint: 0x83, transfer: 1, length: 8) { $0.packets = 2 }),
        ("packets longer than the length", table(lengths: [4, 5], length: 8)),
        ("packets shorter than the length", table(lengths: [4, 3], length: 8)),
        ("packets that overflow", table(lengths: [.max, 9], length: 8)),
        ("an unknown transfer type", HCDBytes.submit(1, endpoint: 0x81, transfer: 4, length: 8)),
        ("an unknown record", typed(18)), ("type 0", typed(0)), ("a record of the host", typed(2)),
        ("a completion by the guest", typed(6)), ("a second hello", HCDBytes.hello()),
        (
            "a cancel with payload",
            HCDBytes.record(HCDRecord(.cancel, device: 1, payload: 8), payload: [0, 0, 0, 0, 0, 0, 0, 0])
        ),
        ("a cancel of a slot that isn't", HCDBytes.record(HCDRecord(.cancel, device: 1, id: 1024))),
        ("an answer to what wasn't asked", HCDBytes.record(HCDRecord(.quiesced, device: 1, id: 1))),
        ("an answer with id 0", HCDBytes.record(HCDRecord(.resumed))),
        ("a record after the goodbye", HCDBytes.record(HCDRecord(.bye)) + HCDBytes.record(HCDRecord(.ping))),
    ]

    private static func sized(_ size: UInt32) -> [UInt8] {
        var record = HCDRecord(.ping)
        record.size = size
        return HCDBytes.record(record)
    }

    private static func typed(_ type: UInt16) -> [UInt8] {
        var record = HCDRecord(.ping)
        record.type = type
        return HCDBytes.record(record)
    }

    private static func table(lengths: [UInt32], length: Int) -> [UInt8] {
        let table = lengths.flatMap { HCDBytes.word($0) + HCDBytes.word(0) + HCDBytes.word(0) }
        return HCDBytes.submit(1, endpoint: 0x83, transfer: 1, length: length, payload: table) {
            $0.packets = UInt16(lengths.count)
        }
    }
}

/// Holds whoever comes until it is opened.
final class Gate: Sendable {
    private let passed = Inbox<Void>()
    func open() { passed.append(()) }
    func pass() async { await passed.wait(for: 1) }
}

/// A device whose reset takes as long as the test wants.
final class SlowReset: USBBackend {
    private let gate: Gate
    init(_ gate: Gate) { self.gate = gate }
    func submit(_ urb: consuming URB) { urb.complete(.success) }
    func cancel(_ token: URBToken) {}
    func reset() async throws(USBError) { await gate.pass() }
    func close() async {}
}

/// The same numbers for the same seed (splitmix64).
struct Random: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
