// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A SUBMIT that is coming in.
struct USBIPInbound: ~Copyable {
    let submit: USBIPSubmit
    /// What it's answered with instead of being submitted; its data are dropped then.
    var refusal: URBStatus?
    /// The seqnum of the UNLINK that came before it.
    var unlink: UInt32?
    /// Of an OUT transfer with data.
    var buffer: TransferBuffer?
    var packets: IsoPacketTable?
    /// Bytes of data that have come.
    var received = 0
    var packetsReceived = 0

    init(_ submit: USBIPSubmit) {
        self.submit = submit
        refusal = submit.refusal
    }

    /// Takes over what there is of its data, from the front.
    mutating func takeData(_ bytes: RawSpan, from position: Int) -> Int {
        let count = min(submit.dataCount - received, bytes.byteCount - position)
        if count > 0, refusal == nil {
            // SAFETY: `count` bytes are there from `position` on; copyMemory checks that the buffer has room.
            unsafe bytes.withUnsafeBytes { source in
                guard let start = source.baseAddress else { return }
                unsafe buffer?.copyMemory(from: start + position, count: count, at: received)
            }
        }
        received += count
        return count
    }

    mutating func take(_ packet: IsoPacket) {
        packets?[packetsReceived] = packet
        packetsReceived += 1
    }

    var isWhole: Bool { received == submit.dataCount && packetsReceived == submit.packetCount }
}

/// How far a session has come with the peer's bytes, which are cut anywhere.
struct USBIPFrameReader: ~Copyable {
    /// Bytes of a header, or of an isochronous packet, of which not all have come.
    var scratch = USBIPScratch()
    /// Nil between commands.
    var inbound: USBIPInbound?
}
