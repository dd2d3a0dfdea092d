// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import VUSBCore

/// Answers to what has ended, by whoever's turn it is.
extension USBIPSession {
    /// U1 to U4, U7 and U8 of USBIP.md.
    func append(_ finished: consuming USBIPFinished) {
        guard let urb = finished.urb.take() else { return }
        defer { finished.memory?.release() }
        let unlink = finished.unlink
        if let unlink, urb.status == .cancelled {
            return outgoing.append(USBIPReply(unlink: unlink, .cancelled))
        }
        if urb.packetCount > 0 {
            answerPackets(finished.seqnum, urb)
        } else {
            answerData(finished.seqnum, finished.wirePacketCount, finished.memory, urb)
        }
        if let unlink { outgoing.append(USBIPReply(unlink: unlink, .success)) }
    }

    private func answerData(
        _ seqnum: UInt32, _ wirePacketCount: UInt32, _ memory: USBIPMemory?, _ urb: consuming URB
    ) {
        let isIn = urb.direction == .in
        let length = isIn ? min(urb.actualLength, urb.bufferCapacity) : urb.actualLength
        let reply = USBIPReply(
            submit: seqnum, urb.status, actualLength: length, packetCount: wirePacketCount)
        guard isIn, length > 0, let buffer = urb.buffer.take() else { return outgoing.append(reply) }
        if let memory, length >= USBIPLimits.memory {
            // Whether the data are there or are to be copied to there.
            guard let message = memory.message(reply, buffer, count: length) else {
                return drop(seqnum, wirePacketCount)
            }
            return outgoing.append(message)
        }
        outgoing.fill { batch in
            batch.append(reply)
            batch.append(buffer, at: 0, count: length)
        }
    }

    /// A source has kept the buffer of a transfer that it has given back with another: a defect. What the peer gets is
    /// no data of others.
    private func drop(_ seqnum: UInt32, _ wirePacketCount: UInt32) {
        assertionFailure("a source has kept a buffer")
        outgoing.append(USBIPReply(submit: seqnum, .io, packetCount: wirePacketCount))
    }

    private func answerPackets(_ seqnum: UInt32, _ urb: consuming URB) {
        let buffer = urb.buffer.take()
        let count = urb.packetCount
        let isIn = urb.direction == .in
        let capacity = Self.capacity(buffer)
        let total = (0..<count).reduce(0) { sum, index in
            sum + Self.moved(urb.packet(at: index), isIn ? capacity : .max)
        }
        let reply = USBIPReply(
            submit: seqnum, urb.status, actualLength: total, packetCount: UInt32(count), startFrame: urb.startFrame,
            errorCount: urb.errorCount)
        outgoing.fill { batch in
            batch.append(reply)
            if isIn {
                for index in 0..<count {
                    guard let packet = urb.packet(at: index) else { continue }
                    let moved = Self.moved(packet, capacity)
                    // One that hasn't moved may lie anywhere.
                    if moved > 0 { batch.append(buffer, at: Int(packet.offset), count: moved) }
                }
            }
            for index in 0..<count {
                guard var packet = urb.packet(at: index) else { continue }
                packet.actualLength = UInt32(Self.moved(packet, isIn ? capacity : .max))
                batch.append(packet)
            }
        }
    }

    private static func capacity(_ buffer: borrowing TransferBuffer?) -> Int {
        switch buffer {
        case .some(let buffer): buffer.capacity
        case .none: 0
        }
    }

    /// Bytes of a packet that are answered: none of those that don't lie in the buffer.
    private static func moved(_ packet: IsoPacket?, _ capacity: Int) -> Int {
        guard let packet else { return 0 }
        let count = Int(min(packet.actualLength, packet.length))
        return Int(packet.offset) <= capacity - count ? count : 0
    }
}

extension ByteBuffer {
    /// Copies bytes of a transfer; traps where they aren't in it.
    fileprivate mutating func append(_ buffer: borrowing TransferBuffer?, at offset: Int, count: Int) {
        switch buffer {
        case .some(let buffer): append(buffer, at: offset, count: count)
        case .none: precondition(count == 0)
        }
    }

    fileprivate mutating func append(_ buffer: borrowing TransferBuffer, at offset: Int, count: Int) {
        precondition(offset >= 0 && count >= 0 && count <= buffer.capacity && offset <= buffer.capacity - count)
        // SAFETY: the range was checked; the buffer is borrowed for the call.
        let source = unsafe UnsafeRawBufferPointer(start: buffer.baseAddress + offset, count: count)
        unsafe writeBytes(source)
    }
}
