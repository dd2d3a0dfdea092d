// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// A CDC-ACM modem (CDC 1.2 and PSTN 1.2) whose other end is looped back: what it's sent comes back.
///
/// It keeps at most 64 KiB that nobody has read; then it answers NAK until somebody reads. An IN transfer ends as a
/// real device ends it: with a short packet, or with a packet of no bytes where the data are a multiple of the packet
/// size and nothing follows.
package struct SerialModel: DeviceModel {
    package typealias Job = Never

    package static let echoLimit = 64 << 10

    private static let notification = EndpointAddress(rawValue: 0x82)
    private static let dataIn = EndpointAddress(rawValue: 0x81)
    private static let dataOut = EndpointAddress(rawValue: 0x01)

    /// PSTN 1.2, table 13.
    private enum Request {
        static let setLineCoding: UInt8 = 0x20
        static let getLineCoding: UInt8 = 0x21
        static let setControlLineState: UInt8 = 0x22
        static let sendBreak: UInt8 = 0x23
    }

    /// Bits of SERIAL_STATE (PSTN 1.2, table 31).
    private enum LineState {
        static let carrier: UInt8 = 1
        static let dataSetReady: UInt8 = 2
        static let breakSignal: UInt8 = 4
    }

    private var echo = ByteRing(limit: Self.echoLimit)
    /// The last IN transfer ended on a full packet with nothing behind it: the next packet has no bytes.
    private var owesZeroPacket = false
    /// 9600 8N1, little-endian rate first (PSTN 1.2, table 17).
    private var lineCoding: [UInt8] = [0x80, 0x25, 0, 0, 0, 0, 8]
    private var lineState: UInt8 = 0
    /// SERIAL_STATE that the host hasn't read yet.
    private var pendingStates: [UInt8] = []

    package init() {}

    package mutating func transfer(
        _ urb: inout URB,
        on endpoint: EndpointDescriptor,
        moved: inout Int,
        effects: inout Effects
    ) -> Verdict<Never> {
        switch endpoint.bEndpointAddress {
        case Self.dataIn: send(&urb, endpoint, &moved, &effects)
        case Self.dataOut: receive(urb, endpoint, &moved, &effects)
        case Self.notification: notify(&urb, &moved)
        default: .complete(.noEndpoint)
        }
    }

    private mutating func send(
        _ urb: inout URB,
        _ endpoint: EndpointDescriptor,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Never> {
        guard echo.count > 0 else {
            guard owesZeroPacket else { return .wait }
            owesZeroPacket = false
            return .complete(.success)
        }
        let packet = endpoint.maxPacketSize
        // A packet that doesn't fit isn't acknowledged: its bytes are there for the next transfer.
        let fitting = urb.requestedLength % packet == 0 || urb.requestedLength >= echo.count
        let room = fitting ? urb.requestedLength : urb.requestedLength / packet * packet
        if let memory = unsafe urb.memory {
            // SAFETY: VirtualDevice checked that the buffer holds requestedLength.
            moved = unsafe echo.remove(to: memory, count: room)
        }
        effects.wake.insert(Self.dataOut)
        guard fitting, moved > 0 else { return .complete(.babble) }
        owesZeroPacket = moved == urb.requestedLength && moved % packet == 0 && echo.count == 0
        return .complete(.success)
    }

    /// Takes whole packets while there is room.
    private mutating func receive(
        _ urb: borrowing URB,
        _ endpoint: EndpointDescriptor,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Never> {
        let left = urb.requestedLength - moved
        guard left > 0, let memory = unsafe urb.memory else { return .complete(.success) }
        let packet = endpoint.maxPacketSize
        let count = left <= echo.room ? left : echo.room / packet * packet
        // SAFETY: moved + count is at most requestedLength, which the buffer holds.
        moved += unsafe echo.append(memory + moved, count: count)
        if count > 0 { effects.wake.insert(Self.dataIn) }
        return moved == urb.requestedLength ? .complete(.success) : .wait
    }

    private mutating func notify(_ urb: inout URB, _ moved: inout Int) -> Verdict<Never> {
        guard let state = pendingStates.first else { return .wait }
        // Notification header: class request to the host, SERIAL_STATE, interface 0, two bytes.
        let bytes: [UInt8] = [0xa1, 0x20, 0, 0, 0, 0, 2, 0, state, 0]
        guard urb.requestedLength >= bytes.count else { return .complete(.babble) }
        pendingStates.removeFirst()
        moved = urb.write(bytes)
        return .complete(.success)
    }

    package mutating func control(
        _ setup: SetupPacket,
        _ urb: borrowing URB,
        effects: inout Effects
    ) -> ControlReply {
        guard setup.kind == .class, setup.recipient == .interface, setup.wIndex == 0 else { return .stall }
        switch (setup.bRequest, setup.bmRequestType & 0x80 != 0) {
        case (Request.setLineCoding, false) where setup.wLength == 7:
            lineCoding = urb.bytes()
            return .acknowledge
        case (Request.getLineCoding, true): return .data(lineCoding)
        case (Request.setControlLineState, false) where setup.wLength == 0:
            // With the other end looped back, DTR comes back as DSR and carrier.
            let isReady = setup.wValue & 1 != 0
            report(isReady ? LineState.carrier | LineState.dataSetReady : 0, &effects)
            return .acknowledge
        case (Request.sendBreak, false) where setup.wLength == 0:
            // It comes back too: a signal that begins and ends with the request. A length of 0 ends one.
            if setup.wValue > 0 { report(lineState | LineState.breakSignal, &effects) }
            lineState &= ~LineState.breakSignal
            return .acknowledge
        default: return .stall
        }
    }

    /// A host that reads no notifications finds the newest sixteen.
    private mutating func report(_ state: UInt8, _ effects: inout Effects) {
        guard state != lineState else { return }
        lineState = state
        if pendingStates.count == 16 { pendingStates.removeFirst() }
        pendingStates.append(state)
        effects.wake.insert(Self.notification)
    }

    /// Bytes that weren't read stay: they belong to the line, not to the attachment.
    package mutating func settingsChanged() {
        lineState = 0
        pendingStates.removeAll()
        owesZeroPacket = false
    }
}

extension SerialModel {
    static let kind = Blueprint.Kind(
        name: "serial",
        product: "Serial Echo",
        identity: (0x0525, 0xa4a7),
        deviceClass: (2, 0, 0),
        speeds: [.high, .full, .super],
        interfaces: 2
    ) { speed in
        let bulkSize: UInt16 = speed == .full ? 64 : speed == .high ? 512 : 1024
        let communication =
            DescriptorBuilder.interface(0, endpoints: 1, class: (2, 2, 1))
            // Header, CDC 1.10.
            + [5, 0x24, 0x00, 0x10, 0x01]
            // Call management: none; data interface 1.
            + [5, 0x24, 0x01, 0x00, 1]
            // Abstract control: line coding, control line state, serial state (bit 1), break (bit 2).
            + [4, 0x24, 0x02, 0x06]
            // Union: interface 0 controls interface 1.
            + [5, 0x24, 0x06, 0, 1]
            // Every 32 ms, or as near as the speed has it.
            + DescriptorBuilder.endpoint(
                0x82,
                .interrupt,
                maxPacket: 10,
                interval: speed == .full ? 32 : 9,
                speed: speed
            )
        return communication + DescriptorBuilder.interface(1, endpoints: 2, class: (10, 0, 0))
            + DescriptorBuilder.endpoint(0x81, .bulk, maxPacket: bulkSize, speed: speed)
            + DescriptorBuilder.endpoint(0x01, .bulk, maxPacket: bulkSize, speed: speed)
    }
}
