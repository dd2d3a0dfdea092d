// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// A USB stick: Bulk-Only Transport 1.0 with the transparent SCSI command set over an image file.
///
/// Data go directly between a URB's buffer and the file, as one job for each URB. A job is tried on the submitter's
/// thread first, with the kernel told not to wait for the medium: what is in the page cache costs no change of
/// threads, which would be most of the time of a small read. What would wait (a read that isn't cached, a write where
/// the file system can't tell, SYNCHRONIZE CACHE always) is done on the disk's own thread, so that neither a front's
/// threads nor another disk wait for it.
///
/// The protocol has one command at a time, and so do the phases below; the thirteen cases of 6.7 are told apart by
/// `begin`. Where the device and the host disagree, the endpoint is halted as the specification allows, and the status
/// wrapper with its residue follows once the host has cleared the halt.
package struct DiskModel: DeviceModel {
    package enum Job: Sendable {
        case read(Piece)
        case write(Piece, isDurable: Bool)
        case synchronize(ImageReference, ejects: Bool)
    }

    /// Part of the image, and where in the URB's buffer it goes.
    package struct Piece: Sendable {
        let image: ImageReference
        let offset: UInt64
        let position: Int
        let count: Int
    }

    /// The image as far as a job needs it; opaque outside of this module.
    package struct ImageReference: Sendable {
        let file: ImageFile
    }

    enum Phase: Sendable {
        /// A command wrapper is expected.
        case command
        /// Data to the host, then the status.
        case sending(DataStage)
        /// All data are sent, and a packet of no bytes has to end them.
        case endingShort
        case receiving(DataStage)
        /// A job is under way: nothing else moves.
        case working
        case status
        /// After a command wrapper that isn't valid, until the host resets: 6.6.1.
        case invalid
    }

    struct DataStage: Sendable {
        /// Nil where it's a part of the image.
        var reply: [UInt8]?
        var imageOffset: UInt64 = 0
        var isDurable = false
        /// Bytes that will be moved: the smaller of what host and device want.
        let total: UInt64
        /// The host wants more than that.
        let endsEarly: Bool
        var moved: UInt64 = 0

        var left: UInt64 { total - moved }
    }

    static let input = EndpointAddress(rawValue: 0x81)
    static let output = EndpointAddress(rawValue: 0x02)

    /// Bulk-Only Transport, 3.1 and 3.2.
    private enum Request {
        static let reset: UInt8 = 0xff
        static let maximumLUN: UInt8 = 0xfe
    }

    let image: ImageReference
    var disk: SCSIDisk
    var phase = Phase.command
    var status = StatusWrapper(tag: 0, residue: 0, status: .passed)
    /// The stage whose job is under way.
    var stage: DataStage?

    init(image: ImageFile, serial: String) {
        self.image = ImageReference(file: image)
        disk = SCSIDisk(
            blockCount: image.byteCount / SCSIDisk.blockSize,
            isWriteProtected: image.isReadOnly,
            serial: serial,
            product: "Emulated disk"
        )
    }

    package mutating func transfer(
        _ urb: inout URB,
        on endpoint: EndpointDescriptor,
        moved: inout Int,
        effects: inout Effects
    ) -> Verdict<Job> {
        endpoint.bEndpointAddress.direction == .in
            ? transferIn(&urb, endpoint, &moved, &effects) : transferOut(urb, endpoint, &moved, &effects)
    }

    // MARK: - To the host

    private mutating func transferIn(
        _ urb: inout URB,
        _ endpoint: EndpointDescriptor,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        switch phase {
        case .command, .receiving, .working, .invalid: return .wait
        case .sending(let stage): return send(stage, &urb, endpoint, &moved, &effects)
        case .endingShort:
            phase = .status
            return .complete(.success)
        case .status: return sendStatus(&urb, &moved, &effects)
        }
    }

    private mutating func send(
        _ stage: DataStage,
        _ urb: inout URB,
        _ endpoint: EndpointDescriptor,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        let room = urb.requestedLength - moved
        let packet = endpoint.maxPacketSize
        // The packet that doesn't fit isn't acknowledged, and is sent again.
        guard UInt64(room) >= stage.left || urb.requestedLength % packet == 0 else { return .complete(.babble) }
        let count = Int(min(UInt64(room), stage.left))
        guard let reply = stage.reply else {
            self.stage = stage
            phase = .working
            let offset = stage.imageOffset + stage.moved
            return .perform(.read(Piece(image: image, offset: offset, position: moved, count: count)))
        }
        let start = Int(stage.moved)
        return sent(urb.write(Array(reply[start..<start + count]), at: moved), stage, &urb, endpoint, &moved, &effects)
    }

    /// `count` bytes are in the buffer.
    mutating func sent(
        _ count: Int,
        _ stage: DataStage,
        _ urb: inout URB,
        _ endpoint: EndpointDescriptor,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        var stage = stage
        moved += count
        stage.moved += UInt64(count)
        guard stage.left == 0 else {
            phase = .sending(stage)
            return .complete(.success)
        }
        let endsOnShortPacket = stage.total % UInt64(endpoint.maxPacketSize) != 0
        let isFull = moved == urb.requestedLength
        phase = stage.endsEarly && !endsOnShortPacket && isFull ? .endingShort : .status
        // A transfer that has room for more goes on with the packet that follows, which is the status.
        if isFull || endsOnShortPacket || stage.endsEarly { return .complete(.success) }
        return sendStatus(&urb, &moved, &effects)
    }

    private mutating func sendStatus(
        _ urb: inout URB,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        let end = moved + StatusWrapper.byteCount
        guard end <= urb.requestedLength else { return .complete(.babble) }
        let status = status
        let start = moved
        urb.buffer?.withMutableBytes(count: end) { span in
            for index in 0..<StatusWrapper.byteCount { span[start + index] = status.byte(at: index) }
        }
        moved = end
        phase = .command
        effects.wake.insert(Self.output)
        return .complete(.success)
    }

    // MARK: - From the host

    private mutating func transferOut(
        _ urb: borrowing URB,
        _ endpoint: EndpointDescriptor,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        switch phase {
        case .sending, .endingShort, .working, .status, .invalid: return .wait
        case .command: return takeCommand(urb, &moved, &effects)
        case .receiving(let stage):
            let count = Int(min(UInt64(urb.requestedLength - moved), stage.left))
            guard count > 0 else { return received(0, stage, urb, endpoint, &moved, &effects) }
            self.stage = stage
            phase = .working
            let piece = Piece(image: image, offset: stage.imageOffset + stage.moved, position: moved, count: count)
            return .perform(.write(piece, isDurable: stage.isDurable))
        }
    }

    /// `count` bytes of the URB's are in the image.
    mutating func received(
        _ count: Int,
        _ stage: DataStage,
        _ urb: borrowing URB,
        _ endpoint: EndpointDescriptor,
        _ moved: inout Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        var stage = stage
        moved += count
        stage.moved += UInt64(count)
        status.residue -= min(status.residue, UInt32(truncatingIfNeeded: count))
        if stage.left == 0 { return receivedAll(stage, urb, moved, &effects) }
        // A short packet ends the data before their time; the residue tells how many are missing.
        let isShort = urb.requestedLength % endpoint.maxPacketSize != 0 || urb.requestedLength == 0
        if isShort || urb.flags.contains(.zeroPacket) {
            phase = .status
            effects.wake.insert(Self.input)
        } else {
            phase = .receiving(stage)
        }
        return .complete(.success)
    }

    private mutating func receivedAll(
        _ stage: DataStage,
        _ urb: borrowing URB,
        _ moved: Int,
        _ effects: inout Effects
    ) -> Verdict<Job> {
        phase = .status
        effects.wake.insert(Self.input)
        // Case 11: what the host has beyond isn't taken.
        if stage.endsEarly { effects.halt.insert(Self.output) }
        if moved == urb.requestedLength { return .complete(.success) }
        // Bytes that nobody announced: a halt, or where the stage is over the next command, as on the wire.
        return stage.endsEarly ? .complete(.stall) : .wait
    }

    // MARK: - Recovery

    package mutating func control(
        _ setup: SetupPacket,
        _ urb: borrowing URB,
        effects: inout Effects
    ) -> ControlReply {
        guard setup.kind == .class, setup.recipient == .interface, setup.wValue == 0, setup.wIndex == 0
        else { return .stall }
        switch (setup.bRequest, setup.bmRequestType & 0x80 != 0) {
        case (Request.maximumLUN, true): return .data([0])
        case (Request.reset, false) where setup.wLength == 0:
            // It takes effect between two jobs. Halts stay until the host clears them (3.1).
            if case .working = phase { return .wait }
            phase = .command
            effects.wake.insert(Self.output)
            return .acknowledge
        default: return .stall
        }
    }

    /// After a command wrapper that isn't valid, only a reset ends the halts.
    package mutating func haltCleared(_ address: EndpointAddress) -> Bool {
        if case .invalid = phase { return false }
        return true
    }

    package mutating func settingsChanged() {
        phase = .command
        stage = nil
        disk.reset()
    }

    /// Who unplugs the disk may use the image elsewhere at once.
    package func unplugged() { image.file.detach() }
}

extension DiskModel {
    static let kind = Blueprint.Kind(
        name: "disk",
        product: "Emulated disk",
        identity: (0x0525, 0xa4a5),
        speeds: [.high, .full, .super],
        interfaces: 1
    ) { speed in
        let size: UInt16 = speed == .full ? 64 : speed == .high ? 512 : 1024
        // Mass storage, SCSI transparent command set, bulk-only.
        return DescriptorBuilder.interface(0, endpoints: 2, class: (8, 6, 0x50))
            + DescriptorBuilder.endpoint(0x81, .bulk, maxPacket: size, speed: speed)
            + DescriptorBuilder.endpoint(0x02, .bulk, maxPacket: size, speed: speed)
    }
}
