// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// A read as a URB, and a completed URB as the answer to a read; plain or isochronous, as the endpoint is.
enum InTransfer {
    /// Nil where there is no memory, or `size` is below `smallestRead`.
    static func urb(
        _ device: VirtualDevice,
        _ address: EndpointAddress,
        size: Int,
        handler: any URBHandler
    ) -> PreparedURB? {
        guard let endpoint = device.endpoint(address), endpoint.transferType == .isochronous else {
            // An endpoint that isn't there (any more) is the device's to refuse.
            guard let buffer = device.pool.take(size) else { return nil }
            return PreparedURB(endpoint: address, buffer: buffer, length: size, handler: handler)
        }
        let packetSize = endpoint.maxBytesPerInterval
        let count = IsochronousFrame.packetCount(forRead: size, packetSize: packetSize)
        guard let buffer = device.pool.take(count * packetSize),
            var packets = IsoPacketTable(count: count, from: device.pool)
        else { return nil }
        for index in 0..<count {
            packets[index] = IsoPacket(offset: UInt32(index * packetSize), length: UInt32(packetSize))
        }
        return PreparedURB(
            endpoint: address,
            buffer: buffer,
            length: count * packetSize,
            packets: packets,
            handler: handler
        )
    }

    /// Bytes that a read must have room for: an isochronous one for a packet with header and table.
    static func smallestRead(_ device: VirtualDevice, _ address: EndpointAddress) -> Int {
        guard let endpoint = device.endpoint(address), endpoint.transferType == .isochronous else { return 0 }
        return IsochronousFrame.size(packets: 1, payload: endpoint.maxBytesPerInterval)
    }

    static func answer(_ reply: consuming FUSEReply, _ urb: consuming URB, _ pool: BufferPool) {
        guard urb.packetCount == 0 else { return answerIsochronous(reply, urb, pool) }
        guard urb.status == .success else { return reply.error(urb.status.errno) }
        guard let buffer = urb.buffer.take() else { return reply.data([]) }
        reply.data(buffer, count: urb.actualLength)
    }

    private static func answerIsochronous(
        _ reply: consuming FUSEReply,
        _ urb: consuming URB,
        _ pool: BufferPool
    ) {
        guard urb.status == .success || urb.status == .partial else { return reply.error(urb.status.errno) }
        let packets = (0..<urb.packetCount).compactMap { urb.packet(at: $0) }
        let head = IsochronousFrame.encode(packets, startFrame: urb.startFrame)
        guard var frame = pool.take(urb.replySize), let data = urb.buffer.take() else { return reply.error(ENOMEM) }
        frame.copy(head)
        var position = head.count
        for packet in packets {
            let length = Int(min(packet.actualLength, packet.length))
            // SAFETY: the packet lies in the buffer, as URBCheck saw; the frame was made for the sum of the lengths.
            unsafe frame.copyMemory(from: data.baseAddress + Int(packet.offset), count: length, at: position)
            position += length
        }
        reply.data(frame, count: position)
    }
}

/// A URB that only lacks its context.
struct PreparedURB: ~Copyable {
    let endpoint: EndpointAddress
    var setup: SetupPacket?
    var buffer: TransferBuffer?
    let length: Int
    var packets: IsoPacketTable?
    let handler: any URBHandler

    init(
        endpoint: EndpointAddress,
        setup: SetupPacket? = nil,
        buffer: consuming TransferBuffer?,
        length: Int,
        packets: consuming IsoPacketTable? = nil,
        handler: any URBHandler
    ) {
        self.endpoint = endpoint
        self.setup = setup
        self.buffer = buffer
        self.length = length
        self.packets = packets
        self.handler = handler
    }

    consuming func with(context: UInt64) -> URB {
        var urb = URB(
            endpoint: endpoint,
            setup: setup,
            buffer: buffer.take(),
            requestedLength: length,
            handler: handler,
            context: context
        )
        urb.packets = packets.take()
        return urb
    }
}

extension URB {
    /// Bytes that a read gets for this URB.
    var replySize: Int {
        guard packetCount > 0 else { return actualLength }
        let payload = (0..<packetCount).reduce(0) { sum, index in
            sum + (packet(at: index).map { Int(min($0.actualLength, $0.length)) } ?? 0)
        }
        return IsochronousFrame.size(packets: packetCount, payload: payload)
    }
}

extension URBStatus {
    /// What a caller of read(2) or write(2) gets, as usbfs has it; cancelled is what a signal does.
    var errno: Int32 { self == .cancelled ? EINTR : -rawValue }
}
