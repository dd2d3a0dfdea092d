// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// Linux's Gadget Zero in its source/sink configuration, as `usbtest` expects it: IN endpoints send a pattern without
/// end, OUT endpoints take what comes, vendor requests keep up to 4,096 bytes and return them.
///
/// Alternate setting 0 has the bulk pair 0x81 and 0x02, 1 an isochronous pair 0x83 and 0x04 besides, 2 an interrupt
/// pair 0x85 and 0x06 besides. With the pattern `mod63` the bulk sink checks what it's sent and halts where it's
/// something else, as the gadget's does; with `zeros` it takes anything.
package struct ZeroModel: DeviceModel {
    package typealias Job = Never

    private let pattern: Pattern
    private var vendorData: [UInt8] = []
    /// Made with the device, since making one takes longer than a transfer may hold the device's lock. One for each size
    /// of packet that the device has, without those that there was no memory for.
    private let blocks: [(packetSize: Int, block: PatternBlock)]

    /// Vendor requests of the gadget's `source_sink` configuration.
    private static let vendorWrite: UInt8 = 0x5b
    private static let vendorRead: UInt8 = 0x5c
    private static let vendorLimit = 4096

    package init(pattern: Pattern, speed: DeviceSpeed) {
        self.pattern = pattern
        let sizes = PacketSizes(speed)
        blocks = Set([sizes.bulk, sizes.isochronous, sizes.interrupt].map(Int.init)).compactMap { size in
            PatternBlock.shared(pattern, packetSize: size).map { (size, $0) }
        }
    }

    /// Largest packets in bytes.
    private struct PacketSizes {
        let bulk: UInt16
        let isochronous: UInt16
        let interrupt: UInt16

        init(_ speed: DeviceSpeed) {
            bulk = speed == .full ? 64 : speed == .high ? 512 : 1024
            isochronous = speed == .full ? 1023 : 1024
            interrupt = speed == .full ? 64 : 1024
        }
    }

    package mutating func transfer(
        _ urb: inout URB,
        on endpoint: EndpointDescriptor,
        moved: inout Int,
        effects: inout Effects
    ) -> Verdict<Never> {
        if endpoint.transferType == .isochronous { return isochronous(&urb, endpoint, &moved) }
        if endpoint.bEndpointAddress.direction == .in { return source(&urb, endpoint, &moved) }
        return sink(urb, endpoint, &moved, &effects)
    }

    /// It always sends full packets: one that doesn't fit in what is left is babble.
    private func source(_ urb: inout URB, _ endpoint: EndpointDescriptor, _ moved: inout Int) -> Verdict<Never> {
        guard urb.requestedLength % endpoint.maxPacketSize == 0 else {
            moved = urb.requestedLength / endpoint.maxPacketSize * endpoint.maxPacketSize
            guard fill(&urb, endpoint) else { return .complete(.noMemory) }
            return .complete(.babble)
        }
        guard fill(&urb, endpoint) else { return .complete(.noMemory) }
        moved = urb.requestedLength
        return .complete(.success)
    }

    /// Up to the block's size by changing the buffer for the block, above by copying.
    private func fill(_ urb: inout URB, _ endpoint: EndpointDescriptor) -> Bool {
        guard urb.requestedLength > 0 else { return true }
        guard let block = block(endpoint) else { return false }
        if urb.requestedLength <= PatternBlock.byteCount {
            urb.buffer = block.buffer()
            return true
        }
        guard let memory = unsafe urb.memory else { return false }
        for offset in stride(from: 0, to: urb.requestedLength, by: PatternBlock.byteCount) {
            // SAFETY: VirtualDevice checked that the buffer holds requestedLength; the block is a multiple of packets.
            unsafe block.copy(to: memory + offset, count: urb.requestedLength - offset)
        }
        return true
    }

    /// Nil where there was no memory for it.
    private func block(_ endpoint: EndpointDescriptor) -> PatternBlock? {
        let size = endpoint.maxPacketSize
        for (packetSize, block) in blocks where packetSize == size { return block }
        return nil
    }

    private func sink(
        _ urb: borrowing URB,
        _ endpoint: EndpointDescriptor,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Never> {
        moved = urb.requestedLength
        if pattern != .zeros, endpoint.transferType == .bulk, !carriesPattern(urb, endpoint) {
            effects.halt.insert(endpoint.bEndpointAddress)
        }
        return .complete(.success)
    }

    private func carriesPattern(_ urb: borrowing URB, _ endpoint: EndpointDescriptor) -> Bool {
        guard let memory = unsafe urb.memory,
            let block = block(endpoint)
        else { return urb.requestedLength == 0 }
        return stride(from: 0, to: urb.requestedLength, by: PatternBlock.byteCount).allSatisfy { offset in
            // SAFETY: as in fill.
            unsafe block.matches(memory + offset, count: urb.requestedLength - offset)
        }
    }

    /// Every packet is full; every one that is sent is taken.
    private func isochronous(_ urb: inout URB, _ endpoint: EndpointDescriptor, _ moved: inout Int) -> Verdict<
        Never
    > {
        guard endpoint.bEndpointAddress.direction == .out || fillPackets(&urb, endpoint) else {
            return .complete(.noMemory)
        }
        for index in 0..<urb.packetCount {
            guard var packet = urb.packet(at: index) else { continue }
            packet.actualLength = packet.length
            packet.status = .success
            urb.packets?[index] = packet
            moved += Int(packet.length)
        }
        return .complete(.success)
    }

    private func fillPackets(_ urb: inout URB, _ endpoint: EndpointDescriptor) -> Bool {
        guard urb.requestedLength > 0 else { return true }
        guard let block = block(endpoint) else { return false }
        if pattern == .zeros, urb.requestedLength <= PatternBlock.byteCount {
            urb.buffer = block.buffer()
            return true
        }
        guard let memory = unsafe urb.memory else { return false }
        for index in 0..<urb.packetCount {
            guard let packet = urb.packet(at: index) else { continue }
            // SAFETY: VirtualDevice checked that each packet lies inside of requestedLength.
            unsafe block.copy(to: memory + Int(packet.offset), count: Int(packet.length))
        }
        return true
    }

    package mutating func control(
        _ setup: SetupPacket,
        _ urb: borrowing URB,
        effects: inout Effects
    ) -> ControlReply {
        guard setup.kind == .vendor, setup.wValue == 0, setup.wIndex == 0, setup.wLength <= Self.vendorLimit
        else { return .stall }
        switch (setup.bRequest, setup.bmRequestType & 0x80 != 0) {
        case (Self.vendorWrite, false):
            vendorData = urb.bytes()
            return .acknowledge
        case (Self.vendorRead, true):
            let missing = max(0, Int(setup.wLength) - vendorData.count)
            return .data(vendorData + Array(repeating: 0, count: missing))
        default: return .stall
        }
    }
}

extension ZeroModel {
    static let kind = Blueprint.Kind(
        name: "zero",
        product: "Gadget Zero",
        identity: (0x0525, 0xa4a0),
        deviceClass: (0xff, 0, 0),
        speeds: [.high, .full, .super],
        interfaces: 1,
        milliamps: 2
    ) { speed in
        let sizes = PacketSizes(speed)
        // Once a millisecond at each speed.
        let interval: UInt8 = speed == .full ? 1 : 4
        func endpoint(_ address: UInt8, _ type: TransferType, _ size: UInt16) -> [UInt8] {
            DescriptorBuilder.endpoint(
                address,
                type,
                maxPacket: size,
                interval: type == .bulk ? 0 : interval,
                speed: speed
            )
        }
        func setting(_ alternate: UInt8, _ periodic: [UInt8]) -> [UInt8] {
            let count: UInt8 = periodic.isEmpty ? 2 : 4
            return DescriptorBuilder.interface(0, alternate: alternate, endpoints: count, class: (0xff, 0, 0))
                + endpoint(0x81, .bulk, sizes.bulk) + endpoint(0x02, .bulk, sizes.bulk) + periodic
        }
        return setting(0, [])
            + setting(
                1, endpoint(0x83, .isochronous, sizes.isochronous) + endpoint(0x04, .isochronous, sizes.isochronous))
            + setting(2, endpoint(0x85, .interrupt, sizes.interrupt) + endpoint(0x06, .interrupt, sizes.interrupt))
    }
}
