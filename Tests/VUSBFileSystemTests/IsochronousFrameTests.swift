// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@testable import VUSBFileSystem

@Suite("Isochronous frames")
struct IsochronousFrameTests {
    private func header(_ packets: UInt32) -> [UInt8] { word(packets) + Array(repeating: 0, count: 12) }

    private func word(_ value: UInt32) -> [UInt8] {
        [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value >> UInt32($0)) }
    }

    @Test("a read asks for as many packets as fit, at most 128")
    func packetCount() {
        // A packet of 1,024 bytes takes 1,032 with its entry, behind a header of 16.
        #expect(IsochronousFrame.packetCount(forRead: 16 + 1032, packetSize: 1024) == 1)
        #expect(IsochronousFrame.packetCount(forRead: 16 + 1031, packetSize: 1024) == 0)
        #expect(IsochronousFrame.packetCount(forRead: 16 + 2 * 1032, packetSize: 1024) == 2)
        #expect(IsochronousFrame.packetCount(forRead: 524_288, packetSize: 1) == 128)
        #expect(IsochronousFrame.packetCount(forRead: 0, packetSize: 1024) == 0)
        #expect(IsochronousFrame.packetCount(forRead: 15, packetSize: 0) == 0)
        #expect(IsochronousFrame.packetCount(forRead: 524_288, packetSize: Int(UInt32.max)) == 0)
    }

    @Test(
        "a header announces 1 to 128 packets, with all else 0",
        arguments: [
            (0, nil), (1, 1), (128, 128), (129, nil), (0xffff_ffff, nil), (0x8000_0000, nil),
        ] as [(UInt32, Int?)])
    func announced(count: UInt32, expected: Int?) {
        #expect(IsochronousFrame.announcedPackets(header(count)) == expected)
    }

    @Test("a header with anything in its other fields is refused", arguments: 4..<16)
    func dirtyHeader(byte: Int) {
        var bytes = header(1)
        bytes[byte] = 1
        #expect(IsochronousFrame.announcedPackets(bytes) == nil)
    }

    @Test("a header that is too short or too long is refused", arguments: [0, 1, 15, 17])
    func wrongHeaderSize(size: Int) {
        let bytes = Array((header(1) + [0]).prefix(size))
        #expect(IsochronousFrame.announcedPackets(bytes) == nil)
    }

    @Test("the packets of a table follow one another")
    func packets() {
        let table = word(100) + word(0) + word(0) + word(0) + word(28) + word(0)
        let packets = IsochronousFrame.packets(table, payload: 128)
        #expect(
            packets == [
                IsoPacket(offset: 0, length: 100), IsoPacket(offset: 100, length: 0),
                IsoPacket(offset: 100, length: 28),
            ]
        )
    }

    @Test("a table that doesn't add up to the payload is refused", arguments: [0, 127, 129, -1, Int.min, Int.max])
    func wrongSum(payload: Int) {
        #expect(IsochronousFrame.packets(word(100) + word(0) + word(28) + word(0), payload: payload) == nil)
    }

    @Test("lengths whose sum overflows 32 bits are refused")
    func overflow() {
        let table = word(0xffff_ffff) + word(0) + word(129) + word(0)
        #expect(IsochronousFrame.packets(table, payload: 128) == nil)
    }

    @Test("a table with a status or with half an entry is refused")
    func malformedTable() {
        #expect(IsochronousFrame.packets(word(4) + word(1), payload: 4) == nil)
        #expect(IsochronousFrame.packets(word(4), payload: 4) == nil)
        #expect(IsochronousFrame.packets(word(4) + word(0) + [0], payload: 4) == nil)
    }

    @Test("what is read has header and table as documented")
    func encode() {
        let packets = [
            IsoPacket(offset: 0, length: 1024, actualLength: 1024),
            // -EPROTO
            IsoPacket(offset: 1024, length: 1024, actualLength: 0, status: .protocolError),
        ]
        let bytes = IsochronousFrame.encode(packets, startFrame: 0x0102_0304)
        #expect(
            bytes
                == word(2) + [0x04, 0x03, 0x02, 0x01] + word(1) + word(0)
                + word(1024) + word(0) + word(0) + [0xb9, 0xff, 0xff, 0xff]
        )
        #expect(bytes.count == IsochronousFrame.size(packets: 2, payload: 0))
    }
}
