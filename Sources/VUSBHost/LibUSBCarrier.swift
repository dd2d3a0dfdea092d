// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import VUSBCore

/// A `libusb_transfer`, filled in for one URB after the other.
///
/// Data go straight from and to the URB's buffer. There are two exceptions, which borrow a buffer from the pool:
/// control transfers (libusb wants the setup packet in front of the data), and isochronous ones whose packets
/// aren't one behind the other (libusb packs them).
@safe
final class LibUSBCarrier: TransferCarrier, @unchecked Sendable {
    // SAFETY: `raw`, `kind` and `bounce` are the submitter's until submit, then the event thread's; HostTransfer
    // passes them on through its lock.
    private let raw: UnsafeMutablePointer<libusb_transfer>
    private let handle: HostHandle
    private let pool: BufferPool
    private var isPacked = true
    private var bounce: TransferBuffer?

    /// What usbfs takes in one URB.
    static let maximumPackets = 128

    init?(handle: HostHandle, isIsochronous: Bool, pool: BufferPool) {
        guard let raw = unsafe libusb_alloc_transfer(isIsochronous ? Int32(Self.maximumPackets) : 0) else { return nil }
        unsafe self.raw = raw
        self.handle = handle
        self.pool = pool
    }

    deinit { unsafe libusb_free_transfer(raw) }

    func submit() -> Int32 { unsafe libusb_submit_transfer(raw) }

    func cancel() {
        // NOT_FOUND: it has just ended; NO_DEVICE: it is about to.
        unsafe libusb_cancel_transfer(raw)
    }

    func discard() { bounce = nil }

    // MARK: - To libusb

    func prepare(_ urb: borrowing URB, for transfer: HostTransfer) -> URBStatus? {
        guard case .transfer(let type) = urb.operation else { return .invalid }
        // Nothing above makes one that long; libusb counts in Int32.
        guard urb.requestedLength <= Int(Int32.max) - SetupPacket.byteCount else { return .tooLong }
        unsafe raw.pointee.dev_handle = handle.raw
        unsafe raw.pointee.callback = transferCompleted
        // SAFETY: the table owns the transfer until the device is drained.
        unsafe raw.pointee.user_data = Unmanaged.passUnretained(transfer).toOpaque()
        unsafe raw.pointee.timeout = 0
        unsafe raw.pointee.num_iso_packets = 0
        unsafe raw.pointee.flags = 0
        unsafe raw.pointee.endpoint = urb.endpoint.rawValue
        switch type {
        case .control: return prepareControl(urb)
        case .isochronous: return prepareIsochronous(urb)
        case .bulk where urb.streamID != 0: prepareData(urb, LIBUSB_TRANSFER_TYPE_BULK_STREAM)
        case .bulk: prepareData(urb, LIBUSB_TRANSFER_TYPE_BULK)
        case .interrupt: prepareData(urb, LIBUSB_TRANSFER_TYPE_INTERRUPT)
        }
        return nil
    }

    private func prepareData(_ urb: borrowing URB, _ type: libusb_transfer_type) {
        unsafe raw.pointee.type = UInt8(type.rawValue)
        unsafe raw.pointee.buffer = urb.dataBytes
        unsafe raw.pointee.length = Int32(urb.requestedLength)
        if urb.flags.contains(.zeroPacket) && urb.direction == .out {
            unsafe raw.pointee.flags = UInt8(LIBUSB_TRANSFER_ADD_ZERO_PACKET.rawValue)
        }
        if urb.streamID != 0 { unsafe libusb_transfer_set_stream_id(raw, UInt32(urb.streamID)) }
    }

    private func prepareControl(_ urb: borrowing URB) -> URBStatus? {
        guard let setup = urb.setup else { return .invalid }
        let length = SetupPacket.byteCount + urb.requestedLength
        guard var buffer = pool.take(length) else { return .noMemory }
        buffer.write(setup)
        if urb.direction == .out, urb.requestedLength > 0, let data = unsafe urb.dataBytes {
            // SAFETY: VirtualDevice checked that the URB's buffer holds requestedLength bytes.
            unsafe buffer.copyMemory(from: data, count: urb.requestedLength, at: SetupPacket.byteCount)
        }
        unsafe raw.pointee.type = UInt8(LIBUSB_TRANSFER_TYPE_CONTROL.rawValue)
        // libusb wants endpoint 0 whatever the direction.
        unsafe raw.pointee.endpoint = 0
        unsafe raw.pointee.buffer = buffer.baseAddress.assumingMemoryBound(to: UInt8.self)
        unsafe raw.pointee.length = Int32(length)
        bounce = consume buffer
        return nil
    }

    private func prepareIsochronous(_ urb: borrowing URB) -> URBStatus? {
        guard urb.packetCount > 0, urb.packetCount <= Self.maximumPackets else { return .invalid }
        let descriptors = unsafe CLibUSB_iso_packets(raw)
        var total = 0
        isPacked = true
        for index in 0..<urb.packetCount {
            guard let packet = urb.packet(at: index) else { return .invalid }
            if Int(packet.offset) != total { isPacked = false }
            // SAFETY: the transfer was allocated with room for maximumPackets.
            unsafe descriptors?[index].length = packet.length
            total += Int(packet.length)
        }
        unsafe raw.pointee.type = UInt8(LIBUSB_TRANSFER_TYPE_ISOCHRONOUS.rawValue)
        unsafe raw.pointee.num_iso_packets = Int32(urb.packetCount)
        unsafe raw.pointee.length = Int32(total)
        if isPacked {
            unsafe raw.pointee.buffer = urb.dataBytes
            return nil
        }
        return prepareUnpacked(urb, total)
    }

    private func prepareUnpacked(_ urb: borrowing URB, _ total: Int) -> URBStatus? {
        guard var buffer = pool.take(total) else { return .noMemory }
        if urb.direction == .out, let data = unsafe urb.dataBytes {
            var position = 0
            for index in 0..<urb.packetCount {
                guard let packet = urb.packet(at: index) else { return .invalid }
                // SAFETY: VirtualDevice checked that every packet lies within the URB's buffer.
                unsafe buffer.copyMemory(from: data + Int(packet.offset), count: Int(packet.length), at: position)
                position += Int(packet.length)
            }
        }
        unsafe raw.pointee.buffer = buffer.baseAddress.assumingMemoryBound(to: UInt8.self)
        bounce = consume buffer
        return nil
    }

    // MARK: - From libusb

    func collect(_ urb: inout URB, cancelled: URBStatus) -> (status: URBStatus, actualLength: Int) {
        defer { bounce = nil }
        let status = unsafe LibUSBCode.status(raw.pointee.status, cancelled: cancelled)
        let length = unsafe max(0, min(Int(raw.pointee.actual_length), urb.requestedLength))
        switch urb.operation {
        case .transfer(.isochronous): return (status, collectPackets(&urb, cancelled))
        case .transfer(.control):
            if urb.direction == .in, length > 0, let data = unsafe urb.dataBytes {
                // SAFETY: both have at least requestedLength bytes, of which length is no more.
                unsafe data.update(from: raw.pointee.buffer + SetupPacket.byteCount, count: length)
            }
            return (status, length)
        case .transfer, .setConfiguration, .setInterface, .clearHalt: return (status, length)
        }
    }

    /// Returns the bytes of all packets together.
    private func collectPackets(_ urb: inout URB, _ cancelled: URBStatus) -> Int {
        let descriptors = unsafe CLibUSB_iso_packets(raw)
        var position = 0
        var total = 0
        urb.errorCount = 0
        for index in 0..<urb.packetCount {
            // SAFETY: prepare refused more packets than there is room for.
            guard let result = unsafe descriptors?[index], var packet = urb.packet(at: index) else { break }
            let length = Int(min(result.actual_length, packet.length))
            packet.actualLength = UInt32(length)
            packet.status = LibUSBCode.status(result.status, cancelled: cancelled)
            if packet.status != .success { urb.errorCount += 1 }
            if !isPacked, urb.direction == .in, length > 0, let data = unsafe urb.dataBytes {
                // SAFETY: as in prepareUnpacked, the other way.
                unsafe (data + Int(packet.offset)).update(from: raw.pointee.buffer + position, count: length)
            }
            urb.setPacket(packet, at: index)
            position += Int(packet.length)
            total += length
        }
        return total
    }
}

/// libusb's thread.
private func transferCompleted(_ raw: UnsafeMutablePointer<libusb_transfer>?) {
    guard let raw = unsafe raw, let context = unsafe raw.pointee.user_data else { return }
    // SAFETY: set in prepare; the table owns the transfer until the device is drained.
    let transfer = unsafe Unmanaged<HostTransfer>.fromOpaque(context).takeUnretainedValue()
    transfer.completed()
}

extension URB {
    /// The data stage; nil without one. Valid while somebody has the URB.
    fileprivate var dataBytes: UnsafeMutablePointer<UInt8>? {
        switch buffer {
        case .some(let buffer): unsafe buffer.baseAddress.assumingMemoryBound(to: UInt8.self)
        case .none: nil
        }
    }

    fileprivate mutating func setPacket(_ packet: IsoPacket, at index: Int) {
        packets?[index] = packet
    }
}

extension TransferBuffer {
    /// The eight bytes on the wire, in front, without the array that `SetupPacket.bytes` makes.
    fileprivate mutating func write(_ setup: SetupPacket) {
        withMutableBytes(count: SetupPacket.byteCount) { bytes in
            bytes[0] = setup.bmRequestType
            bytes[1] = setup.bRequest
            bytes[2] = UInt8(truncatingIfNeeded: setup.wValue)
            bytes[3] = UInt8(setup.wValue >> 8)
            bytes[4] = UInt8(truncatingIfNeeded: setup.wIndex)
            bytes[5] = UInt8(setup.wIndex >> 8)
            bytes[6] = UInt8(truncatingIfNeeded: setup.wLength)
            bytes[7] = UInt8(setup.wLength >> 8)
        }
    }
}
