// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// How isochronous transfers look in an endpoint file: a header, a table of packets, then their bytes without gaps.
/// All little-endian.
///
/// | bytes | field |
/// |---|---|
/// | 0-3 | number of packets, 1-128 |
/// | 4-7 | frame in which the transfer began (read; 0 in a write) |
/// | 8-11 | packets that failed (read; 0 in a write) |
/// | 12-15 | 0 |
/// | 16 + 8i | length of packet i |
/// | 20 + 8i | its status, 0 or a negative errno (read; 0 in a write) |
package enum IsochronousFrame {
    package static let headerSize = 16
    package static let entrySize = 8
    /// As many as usbfs takes in one URB.
    package static let maximumPackets = 128

    /// How many packets of `packetSize` bytes fit into a read of `size` bytes with header and table; 0 for none.
    package static func packetCount(forRead size: Int, packetSize: Int) -> Int {
        min(max(0, size - headerSize) / (entrySize + packetSize), maximumPackets)
    }

    package static func size(packets: Int, payload: Int) -> Int { headerSize + packets * entrySize + payload }

    /// The number of packets that a write's header announces; nil where it can't be.
    package static func announcedPackets(_ header: [UInt8]) -> Int? {
        guard header.count == headerSize, header[4...].allSatisfy({ $0 == 0 }) else { return nil }
        let count = Int(word(header, at: 0))
        return count > 0 && count <= maximumPackets ? count : nil
    }

    /// Reads a write's table: the packets' lengths. Nil unless they add up to `payload` bytes and no status is set.
    package static func packets(_ table: [UInt8], payload: Int) -> [IsoPacket]? {
        var packets: [IsoPacket] = []
        var offset = 0
        for position in stride(from: 0, to: table.count, by: entrySize) {
            guard position + entrySize <= table.count, word(table, at: position + 4) == 0 else { return nil }
            let length = Int(word(table, at: position))
            guard length <= payload - offset else { return nil }
            packets.append(IsoPacket(offset: UInt32(offset), length: UInt32(length)))
            offset += length
        }
        return offset == payload ? packets : nil
    }

    /// Header and table of a completed IN transfer.
    package static func encode(_ packets: [IsoPacket], startFrame: UInt32) -> [UInt8] {
        let failed = packets.count { $0.status != .success }
        var result: [UInt8] = []
        for value in [UInt32(packets.count), startFrame, UInt32(failed), 0] { append(value, to: &result) }
        for packet in packets {
            append(packet.actualLength, to: &result)
            append(UInt32(bitPattern: packet.status.rawValue), to: &result)
        }
        return result
    }

    private static func word(_ bytes: [UInt8], at position: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[position + $1]) << (8 * UInt32($1)) }
    }

    private static func append(_ value: UInt32, to bytes: inout [UInt8]) {
        for shift in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: value >> UInt32(shift))) }
    }
}
