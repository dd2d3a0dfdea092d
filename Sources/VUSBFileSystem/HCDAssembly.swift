// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A URB whose submit is coming in: its packet table and its data, straight into the buffers that they stay in.
struct HCDAssembly: ~Copyable, Sendable {
    /// What the session has granted.
    struct Permit: Sendable {
        let slot: Int
        let device: VirtualDevice
        /// Where the URB goes no further.
        let refusal: URBStatus?
    }

    /// A URB, ready to be submitted, or refused.
    struct Whole: ~Copyable, Sendable {
        let urb: URB
        let refusal: URBStatus?
    }

    let permit: Permit
    private let submit: HCDRecord.Submit
    private let direction: TransferDirection
    private var table: TransferBuffer?
    private var data: TransferBuffer?
    private var received = 0

    /// Memory is taken here and when data of an OUT transfer begin to come, within the credit that was granted.
    init(_ record: HCDRecord, _ permit: Permit) {
        self.permit = permit
        submit = record.submit
        direction = record.submit.direction
        if submit.packets > 0 { table = permit.device.pool.take(tableCount) }
    }

    private var tableCount: Int { Int(submit.packets) * HCDPacket.byteCount }

    /// - Parameter isLast: these bytes are the rest of the payload, and nothing but padding follows in the write.
    mutating func take(_ source: borrowing WriteData, at position: Int, count: Int, isLast: Bool) {
        var (position, count) = (position, count)
        if received < tableCount {
            let part = min(tableCount - received, count)
            if let base = unsafe table.baseAddress {
                unsafe source.copy(from: position, count: part, to: base + received)
            }
            received += part
            position += part
            count -= part
        }
        guard count > 0 else { return }
        if permit.refusal == nil { takeData(source, at: position, count: count, isLast: isLast) }
        received += count
    }

    private mutating func takeData(_ source: borrowing WriteData, at position: Int, count: Int, isLast: Bool) {
        let offset = received - tableCount
        if offset == 0 {
            let isKept = isLast && count == Int(submit.length) && count > HCDLimits.keptData
            // A buffer that was kept isn't the request's any more: nothing may be left to be read from it.
            data =
                isKept
                ? source.transferBuffer(skipping: position, count: count, from: permit.device.sendPool)
                : permit.device.sendPool.take(Int(submit.length))
            if isKept { return }
        }
        guard let base = unsafe data.baseAddress else { return }
        unsafe source.copy(from: position, count: count, to: base + offset)
    }

    /// The whole URB, once all of its payload has come.
    /// - Throws: the rule that its packet table breaks (row C14).
    consuming func whole(handler: any URBHandler) throws(HCDViolation) -> Whole {
        var refusal = permit.refusal
        let packets = try packetTable()
        if submit.packets > 0, !packets.isThere { refusal = refusal ?? .noMemory }
        if refusal == nil, submit.length > 0 {
            if direction == .in { data = permit.device.pool.take(Int(submit.length)) }
            if !data.isThere { refusal = .noMemory }
        }
        let isControl = submit.transfer == HCDRecord.Transfer.control
        var urb = URB(
            endpoint: isControl ? EndpointAddress(rawValue: submit.endpoint & 0x0f) : submit.address,
            setup: isControl ? submit.setup : nil,
            buffer: data.take(),
            requestedLength: Int(submit.length),
            handler: handler,
            context: UInt64(permit.slot)
        )
        urb.flags = URB.Flags(rawValue: UInt8(truncatingIfNeeded: submit.flags))
        urb.streamID = submit.stream
        urb.packets = packets
        return Whole(urb: urb, refusal: refusal)
    }

    private func packetTable() throws(HCDViolation) -> IsoPacketTable? {
        guard submit.packets > 0 else { return nil }
        guard var result = IsoPacketTable(count: Int(submit.packets), from: permit.device.pool),
            let base = unsafe table.baseAddress
        else { return nil }
        var offset: UInt32 = 0
        for index in 0..<Int(submit.packets) {
            let length = unsafe HCDPacket.length(at: base + index * HCDPacket.byteCount)
            guard length <= submit.length - offset else { throw HCDViolation("packets longer than the URB's length") }
            result[index] = IsoPacket(offset: offset, length: length)
            offset += length
        }
        guard offset == submit.length else { throw HCDViolation("packets shorter than the URB's length") }
        return result
    }
}

extension HCDRecord {
    /// `enum vusb_transfer`.
    enum Transfer {
        static let control: UInt8 = 0
        static let isochronous: UInt8 = 1
        static let last: UInt8 = 3
    }
}

extension HCDRecord.Submit {
    var address: EndpointAddress { EndpointAddress(rawValue: endpoint) }

    /// Which way the data go: as the setup packet of a control transfer says.
    var direction: TransferDirection {
        transfer == HCDRecord.Transfer.control ? setup.direction : address.direction
    }

    /// Bytes of payload that the record must have.
    var payloadSize: Int { Int(packets) * HCDPacket.byteCount + (direction == .out ? Int(length) : 0) }
}

extension Optional where Wrapped == TransferBuffer {
    var isThere: Bool {
        switch self {
        case .some: true
        case .none: false
        }
    }

    /// Nil where there is none.
    @unsafe var baseAddress: UnsafeMutableRawPointer? {
        switch self {
        case .some(let buffer): unsafe buffer.baseAddress
        case .none: nil
        }
    }
}

extension Optional where Wrapped == IsoPacketTable {
    fileprivate var isThere: Bool {
        switch self {
        case .some: true
        case .none: false
        }
    }
}

extension Optional where Wrapped == URB {
    /// Of its buffer; nil where there is none. Valid while the URB lives.
    @unsafe var baseAddress: UnsafeMutableRawPointer? {
        switch self {
        case .some(let urb): unsafe urb.buffer.baseAddress
        case .none: nil
        }
    }
}
