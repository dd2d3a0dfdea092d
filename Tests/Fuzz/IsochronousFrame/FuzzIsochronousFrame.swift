// SPDX-License-Identifier: Apache-2.0

import VUSBCore
import VUSBFileSystem

/// Reads the fuzzer's bytes as a write to an isochronous OUT endpoint, as `OutEndpointFile` does. What is taken for a
/// frame must be one: packets without gaps that end where the bytes do.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    useAsRead(bytes)
    guard let announced = IsochronousFrame.announcedPackets(Array(bytes.prefix(IsochronousFrame.headerSize))) else {
        return 0
    }
    precondition((1...IsochronousFrame.maximumPackets).contains(announced))
    let headSize = IsochronousFrame.size(packets: announced, payload: 0)
    let table = Array(bytes.prefix(headSize).dropFirst(IsochronousFrame.headerSize))
    let payload = bytes.count - headSize
    guard payload >= 0, let packets = IsochronousFrame.packets(table, payload: payload) else { return 0 }
    precondition(packets.count == announced)
    var end = 0
    for packet in packets {
        precondition(Int(packet.offset) == end)
        end += Int(packet.length)
    }
    precondition(end == payload)
    return 0
}

/// The first eight bytes are the sizes of a read and of a packet.
private func useAsRead(_ bytes: [UInt8]) {
    guard bytes.count >= 8 else { return }
    func word(_ position: Int) -> Int { (0..<4).reduce(0) { $0 | Int(bytes[position + $1]) << (8 * $1) } }
    let (size, packetSize) = (word(0), word(4))
    let count = IsochronousFrame.packetCount(forRead: size, packetSize: packetSize)
    precondition((0...IsochronousFrame.maximumPackets).contains(count))
    precondition(count == 0 || IsochronousFrame.size(packets: count, payload: count * packetSize) <= size)
}
