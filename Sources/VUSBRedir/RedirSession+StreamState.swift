// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What is to be submitted for a stream.
struct RedirSubmission: ~Copyable {
    let slot: Int
    let serial: UInt64
    let generation: Int
    let address: EndpointAddress
    let wish: RedirStreamWish
    let size: Int
    /// Isochronous OUT: what was filled.
    var buffer: TransferBuffer?
    var packets: IsoPacketTable?

    /// Nil where there is no memory.
    consuming func urb(_ handler: RedirSession, _ pool: BufferPool) -> URB? {
        let isOut = address.direction == .out
        let length = wish.kind == .isochronous ? size * wish.packetsPerURB : size
        var buffer = buffer.take()
        var packets = packets.take()
        if !isOut {
            buffer = pool.take(length)
            if wish.kind == .isochronous { packets = Self.table(wish.packetsPerURB, size, pool) }
        }
        guard buffer != nil, wish.kind != .isochronous || packets != nil else { return nil }
        var urb = URB(
            endpoint: address, buffer: buffer, requestedLength: length, handler: handler, context: UInt64(slot))
        urb.streamID = UInt16(truncatingIfNeeded: wish.streamID)
        urb.packets = packets.take()
        return urb
    }

    static func table(_ count: Int, _ size: Int, _ pool: BufferPool) -> IsoPacketTable? {
        guard var table = IsoPacketTable(count: count, from: pool) else { return nil }
        for index in 0..<count { table[index] = IsoPacket(offset: UInt32(index * size), length: UInt32(size)) }
        return table
    }
}

/// The isochronous OUT URB that is being filled, taken out of its slot.
struct RedirFilling: ~Copyable {
    let slot: Int
    let generation: Int
    let size: Int
    let packetCount: Int
    var buffer: TransferBuffer?
    var packets: IsoPacketTable?
    var filled: Int

    /// Sees to it that there is memory.
    mutating func prepare(_ pool: BufferPool) -> Bool {
        if buffer == nil { buffer = pool.take(size * packetCount) }
        if packets == nil { packets = RedirSubmission.table(packetCount, size, pool) }
        return buffer != nil && packets != nil
    }

    /// `length` fits.
    mutating func add(_ data: borrowing TransferBuffer?, length: Int) {
        let offset = filled * size
        switch data {
        case .some(let data):
            // SAFETY: the parser has checked that there are `length` bytes; they fit, as the caller has checked.
            unsafe buffer?.copyMemory(from: data.baseAddress, count: min(length, data.capacity), at: offset)
        case .none: break
        }
        packets?[filled] = IsoPacket(offset: UInt32(offset), length: UInt32(length))
        filled += 1
    }
}

extension RedirSession.State {
    /// What follows from the end of a stream's URB.
    enum Fate {
        /// Nothing came: there is no such stream any more, or it pauses, or did.
        case over
        case failed
        /// With the stream as it is for what has come.
        case goesOn(RedirStream, RedirForm)
    }

    mutating func fate(of status: URBStatus, _ index: Int, _ generation: Int) -> Fate {
        guard phase != .closed, var stream = streams[index], stream.generation == generation else { return .over }
        let before = stream
        stream.inFlight -= 1
        defer { if streams[index] != nil { streams[index] = stream } }
        switch status {
        case .success, .partial: stream.failures = 0
        // Taken back to be parked: it may go on already.
        case .cancelled: return .over
        case _ where stream.isParked: return .over
        case .stall: return .failed
        // The device takes nothing just now: `resume` has the stream go on. Asking again at once would never end.
        case .busy:
            stream.isParked = true
            return .over
        case .noDevice, .shutdown, .noEndpoint:
            streams[index] = nil
            return .over
        default:
            stream.failures += 1
            if stream.failures > RedirLimits.streamFailures { return .failed }
        }
        stream.nextID += stream.wish.kind == .isochronous ? UInt64(stream.wish.packetsPerURB) : 1
        // Nothing left to send: an underrun.
        if stream.isOut, stream.inFlight == 0, stream.ready.isEmpty { stream.isPrefilling = true }
        return .goesOn(before, form)
    }

    /// Marks all of the stream's URBs; the tokens that are to be cancelled.
    mutating func cancel(_ index: Int, _ generation: Int) -> [URBToken] {
        (0..<RedirLimits.urbs).compactMap { slot in
            guard slots[slot].purpose == .stream(index, generation: generation) else { return nil }
            return slots.cancel(slot)
        }
    }

    /// Slots that are filled for streams that have ended.
    var orphans: [Int] {
        guard slots.inUse > 0 else { return [] }
        return (0..<RedirLimits.urbs).filter { slot in
            guard slots[slot].phase == .filling, case .stream(let index, let generation) = slots[slot].purpose else {
                return false
            }
            return streams[index]?.generation != generation
        }
    }

    /// Takes out what a slot was filled with for a stream that has ended, and frees the slot.
    mutating func takeOrphan(_ slot: Int) -> RedirFilling? {
        guard slots[slot].phase == .filling, case .stream(let index, let generation) = slots[slot].purpose,
            streams[index]?.generation != generation
        else { return nil }
        let taken = RedirFilling(
            slot: slot, generation: generation, size: 0, packetCount: 0, buffer: slots[slot].buffer.take(),
            packets: slots[slot].packets.take(), filled: 0)
        slots.release(slot)
        return taken
    }

    // MARK: - Submitting

    mutating func beginPumping(_ index: Int) -> Bool {
        guard let stream = streams[index] else { return false }
        streams[index]?.again = stream.isPumping
        streams[index]?.isPumping = true
        return !stream.isPumping
    }

    /// Nil where there is nothing to submit: the pumping is over then.
    mutating func nextOfStream(_ index: Int) -> RedirSubmission? {
        guard let stream = streams[index] else { return nil }
        if let slot = nextSlot(index, stream) {
            streams[index]?.inFlight += 1
            return RedirSubmission(
                slot: slot, serial: slots[slot].serial, generation: stream.generation, address: stream.address,
                wish: stream.wish, size: stream.size, buffer: slots[slot].buffer.take(),
                packets: slots[slot].packets.take())
        }
        streams[index]?.isPumping = false
        guard stream.again else { return nil }
        streams[index]?.again = false
        streams[index]?.isPumping = true
        return nextOfStream(index)
    }

    private mutating func nextSlot(_ index: Int, _ stream: RedirStream) -> Int? {
        guard phase == .open, !stream.isParked, !isQuiet, stream.inFlight < stream.wish.transfers else { return nil }
        guard stream.isOut else {
            guard !isFull else { return nil }
            return slots.take(.stream(index, generation: stream.generation), .submitting(isCancelled: false))
        }
        guard !stream.isPrefilling, let slot = stream.ready.first else { return nil }
        streams[index]?.ready.removeFirst()
        slots[slot].phase = .submitting(isCancelled: false)
        return slot
    }

    // MARK: - Filling

    /// Nil where the endpoint has no such stream, or no room in it.
    mutating func takeFilling(_ index: Int) -> RedirFilling? {
        guard let stream = streams[index], stream.isOut, !stream.isParked else { return nil }
        guard let slot = stream.filling ?? newFilling(index, stream) else { return nil }
        return RedirFilling(
            slot: slot, generation: stream.generation, size: stream.size, packetCount: stream.wish.packetsPerURB,
            buffer: slots[slot].buffer.take(), packets: slots[slot].packets.take(), filled: slots[slot].filled)
    }

    private mutating func newFilling(_ index: Int, _ stream: RedirStream) -> Int? {
        guard stream.ready.count + stream.inFlight < stream.wish.transfers else { return nil }
        let slot = slots.take(.stream(index, generation: stream.generation), .filling)
        streams[index]?.filling = slot
        if let slot { slots[slot].filled = 0 }
        return slot
    }

    /// - Returns: what is to be dropped outside of the lock, as its stream has ended.
    mutating func putFilling(_ filling: consuming RedirFilling, _ index: Int) -> RedirFilling? {
        let slot = filling.slot
        guard streams[index]?.generation == filling.generation, streams[index]?.filling == slot else {
            if slots[slot].phase == .filling { slots.release(slot) }
            return filling
        }
        slots[slot].filled = filling.filled
        let isComplete = filling.filled == filling.packetCount
        slots[slot].buffer = filling.buffer.take()
        slots[slot].packets = filling.packets.take()
        guard isComplete, let wish = streams[index]?.wish else { return nil }
        streams[index]?.filling = nil
        streams[index]?.ready.append(slot)
        if let count = streams[index]?.ready.count, 2 * count >= wish.transfers { streams[index]?.isPrefilling = false }
        return nil
    }

    // MARK: - Pausing

    /// Takes the streams' URBs back, until `unpark`; the tokens that are to be cancelled.
    mutating func park() -> [URBToken] {
        isQuiet = true
        var tokens: [URBToken] = []
        for index in streams.indices {
            guard let stream = streams[index] else { continue }
            streams[index]?.isParked = true
            tokens += cancel(index, stream.generation)
        }
        return tokens
    }

    mutating func unpark() {
        isQuiet = false
        for index in streams.indices { streams[index]?.isParked = false }
    }
}
