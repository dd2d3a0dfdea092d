// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: codec")
struct USBIPCodecTests {
    private func command(_ bytes: [UInt8], deviceID: UInt32 = 0x0001_000f) throws -> USBIPCommand {
        try USBIPCommand(unsafe bytes.span.bytes, deviceID: deviceID)
    }

    /// Big-endian words, as the kernel's document prints them.
    private func bytes(_ words: String) -> [UInt8] {
        let numbers = words.split(separator: " ").map { UInt32($0, radix: 16) ?? 0 }
        return numbers.flatMap { USBIPWire.big($0) }
    }

    @Test("the commands of the kernel's document are understood")
    func document() throws {
        let wires = [
            "00000001 00000d05 0001000f 00000001 00000001 00000200 00000040 ffffffff 00000000 00000004 00000000 00000000",
            "00000001 00000d06 0001000f 00000000 00000001 00000000 00000040 ffffffff 00000000 00000004 00000000 00000000",
        ]
        for (wire, isIn) in zip(wires, [true, false]) {
            guard case .submit(let submit) = try command(bytes(wire)) else {
                Issue.record("no SUBMIT")
                return
            }
            #expect(submit.seqnum == (isIn ? 0xd05 : 0xd06))
            #expect(submit.direction == (isIn ? .in : .out))
            #expect(submit.endpoint == 1 && submit.length == 64)
            // In the document the number of packets stands where start_frame is.
            #expect(submit.startFrame == 0xffff_ffff && submit.packetCount == 0)
            #expect(submit.dataCount == (isIn ? 0 : 64))
        }
    }

    @Test("each field of a SUBMIT is where it belongs")
    func fields() throws {
        let wire = bytes("1 22222222 1000f 1 4 41 1000 55555555 3 77777777") + [0x80, 6, 2, 1, 4, 3, 6, 5]
        guard case .submit(let submit) = try command(wire) else {
            Issue.record("no SUBMIT")
            return
        }
        #expect(submit.seqnum == 0x2222_2222 && submit.direction == .in && submit.endpoint == 4)
        #expect(submit.flags == 0x41 && submit.length == 0x1000 && submit.startFrame == 0x5555_5555)
        #expect(submit.packetCount == 3 && submit.wirePacketCount == 3)
        #expect(
            submit.setup
                == SetupPacket(bmRequestType: 0x80, bRequest: 6, wValue: 0x0102, wIndex: 0x0304, wLength: 0x0506))
    }

    @Test("the limits of lengths and packets are the last that is taken")
    func limits() throws {
        func check(_ length: UInt32, isIn: Bool, packets: UInt32 = 0) throws {
            _ = try USBIPSubmit(
                unsafe USBIPWire().submit(1, endpoint: 1, isIn: isIn, length: length, packets: packets).span.bytes,
                seqnum: 1)
        }
        try check(16 << 20, isIn: false)
        try check(0x7fff_ffff, isIn: true)
        try check(0, isIn: true, packets: 1024)
        try check(0, isIn: true, packets: 0xffff_ffff)
        #expect(throws: USBIPViolation.length(16 << 20 | 1)) { try check(16 << 20 | 1, isIn: false) }
        #expect(throws: USBIPViolation.length(0x8000_0000)) { try check(0x8000_0000, isIn: true) }
        #expect(throws: USBIPViolation.packetCount(1025)) { try check(0, isIn: true, packets: 1025) }
        #expect(throws: USBIPViolation.packetCount(0xffff_fffe)) { try check(0, isIn: true, packets: 0xffff_fffe) }
    }

    @Test("answers are as the kernel's document has them")
    func answers() {
        var buffer = ByteBuffer()
        buffer.append(
            USBIPReply(
                submit: 0xd05, .shortNotOK, actualLength: 0x40, packetCount: 2, startFrame: 7, errorCount: 3))
        buffer.append(USBIPReply(unlink: 9, .cancelled))
        buffer.append(IsoPacket(offset: 1, length: 2, actualLength: 3, status: .protocolError))
        let words = "3 d05 0 0 0 ffffff87 40 7 2 3 0 0 4 9 0 0 0 ffffff98 0 0 0 0 0 0 1 2 3 ffffffb9"
        #expect(Array(buffer.readableBytesView) == bytes(words))
    }

    @Test("speeds have the kernel's numbers")
    func speeds() {
        #expect(DeviceSpeed.allCases.map(\.usbipNumber) == [1, 2, 3, 5, 6])
    }
}

@Suite("USB/IP: what is used again")
struct USBIPMemoryTests {
    @Test("a batch is filled again once nobody has it any more")
    func batches() {
        var outgoing = USBIPOutgoing(ByteBufferAllocator())
        var taken: [ByteBuffer] = []
        var starts: [UInt] = []
        for seqnum in 0..<4 as Range<UInt32> {
            outgoing.append(USBIPReply(unlink: seqnum, .success))
            outgoing.give(to: &taken)
            #expect(taken.count == 1 && taken[0].readableBytes == 48)
            starts.append(unsafe taken[0].withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) })
            // The third is kept by somebody.
            if seqnum != 2 { taken.removeAll(keepingCapacity: true) } else { taken = [] }
        }
        #expect(Set(starts).count == 1)
        outgoing.append(USBIPReply(unlink: 1, .success))
        outgoing.give(to: &taken)
        let kept = taken
        taken = []
        outgoing.append(USBIPReply(unlink: 2, .success))
        outgoing.give(to: &taken)
        #expect(kept[0].getInteger(at: 4, as: UInt32.self) == 1 && taken[0].getInteger(at: 4, as: UInt32.self) == 2)
    }

    @Test("memory is taken again when neither a transfer nor the socket has it")
    func memories() {
        var memories = USBIPMemories(ByteBufferAllocator())
        let first = memories.take(10000)
        var buffer: TransferBuffer? = first.lend()
        #expect(memories.take(10000) !== first)
        buffer?.copy([1, 2, 3])
        let reply = USBIPReply(submit: 7, .success, actualLength: 3, packetCount: 0)
        var message = first.message(reply, buffer.take(), count: 3)
        #expect(message?.readableBytes == 51 && message?.getBytes(at: 48, length: 3) == [1, 2, 3])
        #expect(!first.take())
        first.release()
        // The socket has it yet.
        #expect(!first.take())
        message = nil
        #expect(first.take())
    }

    @Test("data that a source has elsewhere are copied; memory that it keeps isn't touched")
    func elsewhere() {
        var memories = USBIPMemories(ByteBufferAllocator())
        let memory = memories.take(10000)
        let reply = USBIPReply(submit: 7, .success, actualLength: 3, packetCount: 0)
        let pool = BufferPool()
        var lent: TransferBuffer? = memory.lend()
        var other = pool.take(3)
        other?.copy([4, 5, 6])
        let refused = memory.message(reply, other.take(), count: 3)
        #expect(refused == nil)
        lent = nil
        other = pool.take(3)
        other?.copy([4, 5, 6])
        let message = memory.message(reply, other.take(), count: 3)
        #expect(message?.getBytes(at: 48, length: 3) == [4, 5, 6])
        #expect(pool.outstanding == 0)
        if case .some = lent { Issue.record("it was given back") }
    }
}
