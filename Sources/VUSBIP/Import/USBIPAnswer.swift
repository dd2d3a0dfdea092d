// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The 48 bytes that a server's answer begins with: the other side of `USBIPReply`. Only their form is checked.
enum USBIPAnswer: Equatable {
    case submit(USBIPReturn)
    case unlink(seqnum: UInt32, URBStatus)

    /// - Parameter bytes: at least 48.
    init(_ bytes: RawSpan) throws(USBIPServerFault) {
        let seqnum = bytes.bigEndian(at: 4)
        let status = URBStatus(usbipNumber: Int32(bitPattern: bytes.bigEndian(at: 20)))
        switch bytes.bigEndian(at: 0) {
        case USBIPNumbers.replySubmit:
            self = .submit(
                USBIPReturn(
                    seqnum: seqnum, status: status, length: bytes.bigEndian(at: 24),
                    startFrame: bytes.bigEndian(at: 28), packetCount: bytes.bigEndian(at: 32),
                    errorCount: bytes.bigEndian(at: 36)))
        case USBIPNumbers.replyUnlink: self = .unlink(seqnum: seqnum, status)
        case let command: throw .command(command)
        }
    }
}

/// USBIP_RET_SUBMIT, as the server says it.
struct USBIPReturn: Equatable {
    let seqnum: UInt32
    let status: URBStatus
    let length: UInt32
    let startFrame: UInt32
    let packetCount: UInt32
    let errorCount: UInt32
}

/// A RET_SUBMIT that is coming in, with the URB that it's for.
struct USBIPArrival: ~Copyable {
    let slot: URBToken
    let answer: USBIPReturn
    var urb: URB
    private let dataCount: Int
    private let packetCount: Int
    private var received = 0
    private var packetsReceived = 0
    private var packetBytes = 0

    /// V2, V3 of Imports.md.
    static func check(_ answer: USBIPReturn, _ urb: borrowing URB) throws(USBIPServerFault) {
        let isIn = urb.usbipDirection == .in
        guard answer.length <= Int32.max, !isIn || answer.length <= urb.requestedLength else {
            throw .length(answer.length, of: urb.requestedLength)
        }
        guard urb.packetCount > 0 else { return }
        let isEmpty = answer.packetCount == 0 && answer.status != .success && answer.length == 0
        guard isEmpty || Int(answer.packetCount) == urb.packetCount else {
            throw .packetCount(answer.packetCount, of: urb.packetCount)
        }
    }

    /// After `check`.
    init(_ answer: USBIPReturn, _ urb: consuming URB, slot: URBToken) {
        self.slot = slot
        self.answer = answer
        dataCount = urb.usbipDirection == .in ? Int(answer.length) : 0
        packetCount = urb.packetCount > 0 ? Int(answer.packetCount) : 0
        self.urb = urb
    }

    var isWhole: Bool { received == dataCount && packetsReceived == packetCount }

    /// Takes what there is.
    mutating func take(
        _ bytes: RawSpan, _ position: inout Int, _ scratch: inout USBIPScratch
    ) throws(USBIPServerFault) {
        takeData(bytes, &position)
        while received == dataCount, packetsReceived < packetCount, position < bytes.byteCount {
            let packet = scratch.whole(USBIPNumbers.packetBytes, of: bytes, at: &position) { bytes in
                (length: bytes.bigEndian(at: 8), status: Int32(bitPattern: bytes.bigEndian(at: 12)))
            }
            guard let packet else { return }
            try takePacket(packet.length, URBStatus(usbipNumber: packet.status))
        }
        guard isWhole, packetCount > 0, urb.usbipDirection == .in else { return }
        guard packetBytes == dataCount else { throw .packetSum(packetBytes, of: dataCount) }
    }

    private mutating func takeData(_ bytes: RawSpan, _ position: inout Int) {
        let count = min(dataCount - received, bytes.byteCount - position)
        guard count > 0 else { return }
        // SAFETY: `count` bytes are there from `position` on; copyMemory checks that the buffer has room, which
        // `VirtualDevice` has checked for what was asked.
        unsafe bytes.withUnsafeBytes { source in
            guard let start = source.baseAddress else { return }
            unsafe urb.buffer?.copyMemory(from: start + position, count: count, at: received)
        }
        position += count
        received += count
    }

    /// V4.
    private mutating func takePacket(_ length: UInt32, _ status: URBStatus) throws(USBIPServerFault) {
        guard var packet = urb.packet(at: packetsReceived) else {
            throw .packetCount(answer.packetCount, of: packetCount)
        }
        guard length <= packet.length else { throw .packet(length, of: packet.length) }
        packet.actualLength = length
        packet.status = status
        urb.packets?[packetsReceived] = packet
        packetsReceived += 1
        packetBytes += Int(length)
    }

    /// Bytes that have moved, once it's whole. Packets of an IN transfer are put where they lie.
    mutating func finish() -> Int {
        guard packetCount > 0 else { return Int(answer.length) }
        urb.startFrame = answer.startFrame
        urb.errorCount = min(Int(answer.errorCount), packetCount)
        if urb.usbipDirection == .in { urb.unpack(packetBytes) }
        return packetBytes
    }
}

extension URB {
    /// The direction of the data on the wire.
    var usbipDirection: TransferDirection { usbipSetup?.direction ?? endpoint.direction }

    /// Moves packed data to the packets' places, the last first: each lies behind where it was packed. Where they don't (a
    /// guest may order them as it likes), from a copy.
    fileprivate mutating func unpack(_ total: Int) {
        var packed = total
        var isAscending = true
        for index in (0..<packetCount).reversed() {
            guard let packet = packet(at: index) else { return }
            packed -= Int(packet.actualLength)
            if Int(packet.offset) < packed { isAscending = false }
        }
        let copy = isAscending ? nil : buffer?.bytes(total)
        packed = total
        for index in (0..<packetCount).reversed() {
            guard let packet = packet(at: index) else { return }
            let count = Int(packet.actualLength)
            packed -= count
            if let copy {
                buffer?.copy(Array(copy[packed..<(packed + count)]), at: Int(packet.offset))
            } else {
                buffer?.move(count, from: packed, to: Int(packet.offset))
            }
        }
    }
}

extension TransferBuffer {
    fileprivate func bytes(_ count: Int) -> [UInt8] {
        withBytes(count: count) { span in span.indices.map { span[$0] } }
    }

    /// Traps where either range isn't in it; they may overlap.
    fileprivate mutating func move(_ count: Int, from source: Int, to target: Int) {
        guard count > 0, source != target else { return }
        precondition(source >= 0 && source + count <= capacity)
        // SAFETY: the source was checked; copyMemory checks the target.
        unsafe copyMemory(from: baseAddress + source, count: count, at: target)
    }
}
