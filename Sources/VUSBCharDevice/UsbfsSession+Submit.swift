// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// A URB on its way into the session's tables.
private struct PreparedURB: ~Copyable {
    var slot: UsbfsURBSlot
    var endpoint: EndpointAddress
    var interface: UInt8?
    var isBulk = false
    var isContinuation = false
    /// It may be the first of a chain, or belong to one, and others may follow.
    var mayGather = false
    var streamID: UInt16 = 0
    var flags: URB.Flags = []
    var setup: SetupPacket?
    var isIn: Bool
    var buffer: TransferBuffer?
    var packets: IsoPacketTable?
}

/// SUBMITURB.
extension UsbfsSession {
    /// URBs that an opener may have, pending and completed.
    static let urbLimit = 4096
    /// Bytes of a chain.
    static let chainLimit = 512 << 10
    static let chainTime = Duration.milliseconds(2)

    func submit(
        _ submission: UsbfsSubmission, _ context: UsbfsContext, _ input: Span<UInt8>, _ reply: consuming UsbfsReply
    ) {
        // Of data that came in several rounds it has been reserved with the first.
        let cost = UsbfsURBSlot.overhead + Int(submission.length)
        guard submission.collected != nil || node.reserve(cost) else { return reply.error(ENOMEM) }
        let transfer: UsbfsTransfer
        do throws(UsbfsErrno) {
            transfer = try admit(submission, context, input)
        } catch {
            node.free(cost)
            return reply.error(error.number)
        }
        let refusal = pump(wanting: transfer)
        if refusal == 0 { reply.result(0) } else { reply.error(refusal) }
    }

    private func admit(
        _ submission: UsbfsSubmission, _ context: UsbfsContext, _ input: Span<UInt8>
    ) throws(UsbfsErrno) -> UsbfsTransfer {
        var urb = try prepare(submission, context, input)
        if let collected = submission.collected { urb.buffer = collected.buffer.take() }
        var prepared: PreparedURB? = consume urb
        let (transfer, errno, deadline) = state.withLock { state in state.admit(&prepared) }
        guard let transfer else { throw UsbfsErrno(errno) }
        if let deadline { node.clock.wake(self, at: deadline) }
        return transfer
    }

    private func prepare(
        _ submission: UsbfsSubmission, _ context: UsbfsContext, _ input: Span<UInt8>
    ) throws(UsbfsErrno) -> PreparedURB {
        let urb = submission.urb
        var slot = UsbfsURBSlot()
        slot.address = context.argument
        slot.layout = context.layout
        slot.buffer = urb.buffer
        slot.length = Int(submission.length)
        switch urb.kind {
        case .control: return try prepareControl(submission, slot, input)
        case .isochronous: return try prepareIsochronous(submission, slot, input)
        case .bulk, .interrupt: return try prepareBulk(submission, slot, input)
        }
    }

    private func prepareControl(
        _ submission: UsbfsSubmission, _ slot: consuming UsbfsURBSlot, _ input: Span<UInt8>
    ) throws(UsbfsErrno) -> PreparedURB {
        var interface: UInt8?
        if submission.urb.endpoint & 0x7f != 0 {
            let target = try target(UInt32(submission.urb.endpoint))
            guard target.descriptor.transferType == .control else { throw UsbfsErrno(EINVAL) }
            interface = target.interface
        }
        guard let setup = submission.setup else { throw UsbfsErrno(EINVAL) }
        try checkRecipient(setup)
        let isIn = setup.direction == .in
        slot.buffer = slot.buffer &+ UInt64(SetupPacket.byteCount)
        slot.isShortNotOK = isIn && submission.urb.has(UsbfsABI.Flag.shortNotOK)
        return PreparedURB(
            slot: slot, endpoint: EndpointAddress(number: submission.urb.endpoint & 0x0f, direction: .out),
            interface: interface, setup: setup, isIn: isIn,
            buffer: isIn ? nil : try copy(input, from: submission.data, count: slot.length))
    }

    private func prepareBulk(
        _ submission: UsbfsSubmission, _ slot: consuming UsbfsURBSlot, _ input: Span<UInt8>
    ) throws(UsbfsErrno) -> PreparedURB {
        let urb = submission.urb
        let target = try target(UInt32(urb.endpoint))
        let type = target.descriptor.transferType
        // One-shot interrupt transfers may be called bulk.
        guard type == .interrupt || (type == .bulk && urb.kind == .bulk) else { throw UsbfsErrno(EINVAL) }
        slot.isShortNotOK = urb.isIn && urb.has(UsbfsABI.Flag.shortNotOK)
        var prepared = PreparedURB(
            slot: slot, endpoint: target.address, interface: target.interface, isIn: urb.isIn,
            buffer: urb.isIn ? nil : try copy(input, from: submission.data, count: submission.inputLength))
        if !urb.isIn, urb.has(UsbfsABI.Flag.zeroPacket) { prepared.flags.insert(.zeroPacket) }
        guard type == .bulk else { return prepared }
        prepared.isBulk = true
        prepared.isContinuation = urb.has(UsbfsABI.Flag.bulkContinuation)
        prepared.mayGather =
            prepared.slot.isShortNotOK && prepared.slot.length > 0
            && prepared.slot.length % max(1, target.descriptor.maxPacketSize) == 0
        let streams = state.withLock { $0.streams[target.address.rawValue] ?? 0 }
        if streams > 0 {
            guard urb.packetsOrStream >= 1, urb.packetsOrStream <= streams else { throw UsbfsErrno(EINVAL) }
            prepared.streamID = UInt16(truncatingIfNeeded: urb.packetsOrStream)
        }
        return prepared
    }

    private func prepareIsochronous(
        _ submission: UsbfsSubmission, _ slot: consuming UsbfsURBSlot, _ input: Span<UInt8>
    ) throws(UsbfsErrno) -> PreparedURB {
        let urb = submission.urb
        let target = try target(UInt32(urb.endpoint))
        guard target.descriptor.transferType == .isochronous else { throw UsbfsErrno(EINVAL) }
        let count = Int(urb.packetsOrStream)
        guard var packets = IsoPacketTable(count: count, from: device.pool) else { throw UsbfsErrno(ENOMEM) }
        var offset: UInt32 = 0
        for index in 0..<count {
            let length = input.u32(submission.packets + UsbfsABI.packetSize * index)
            guard length <= target.descriptor.maxBytesPerInterval else { throw UsbfsErrno(EMSGSIZE) }
            packets[index] = IsoPacket(offset: offset, length: length)
            offset += length
        }
        slot.isIsochronous = true
        let buffer =
            urb.isIn
            ? try zeroed(count: slot.length) : try copy(input, from: submission.data, count: submission.inputLength)
        return PreparedURB(
            slot: slot, endpoint: target.address, interface: target.interface, isIn: urb.isIn, buffer: buffer,
            packets: packets)
    }

    /// OUT data: the only copy of them.
    func copy(_ input: Span<UInt8>, from start: Int, count: Int) throws(UsbfsErrno) -> TransferBuffer? {
        guard count > 0 else { return nil }
        guard var buffer = device.sendPool.take(count) else { throw UsbfsErrno(ENOMEM) }
        let source = input.extracting(start..<start + count)
        // SAFETY: the span's bytes live through the call; copyMemory checks the buffer's room.
        unsafe source.withUnsafeBytes { bytes in
            if let base = bytes.baseAddress { unsafe buffer.copyMemory(from: base, count: count) }
        }
        return buffer
    }

    /// Gaps between packets are shown to the caller.
    private func zeroed(count: Int) throws(UsbfsErrno) -> TransferBuffer? {
        guard count > 0 else { return nil }
        guard var buffer = device.pool.takeAny(count) else { throw UsbfsErrno(ENOMEM) }
        buffer.withMutableBytes(count: count) { span in span.update(repeating: 0) }
        return buffer
    }
}

extension UsbfsSubmission {
    /// Bytes of data.
    var length: UInt32 { setup.map { UInt32($0.wLength) } ?? urb.bufferLength }
    /// Those of them that are in the input, of an OUT URB.
    var inputLength: Int { collected == nil ? Int(length) : 0 }
}

extension UsbfsSession.State {
    /// Takes a URB in.
    /// - Returns: its transfer; nil with an errno where it isn't taken.
    fileprivate mutating func admit(
        _ prepared: inout PreparedURB?
    ) -> (UsbfsTransfer?, errno: Int32, deadline: ContinuousClock.Instant?) {
        guard var urb = prepared.take() else { return (nil, EINVAL, nil) }
        guard phase == .open else { return (nil, ENODEV, nil) }
        guard urbs.count - freeURBs.count < UsbfsSession.urbLimit else { return (nil, ENOMEM, nil) }
        if urb.isBulk {
            let bit = UInt32(1) << UInt32(urb.endpoint.index)
            if !urb.isContinuation { disabled &= ~bit }
            guard disabled & bit == 0 else { return (nil, EREMOTEIO, nil) }
        }
        lastUse = .now
        if let transfer = extendChain(urb) { return (transfer, 0, nil) }
        closeChain()
        let transfer = begin(&urb)
        guard urb.isIn, urb.mayGather else {
            queue(transfer)
            return (transfer, 0, nil)
        }
        transfer.phase = .gathering
        chain = transfer.index
        let deadline = ContinuousClock.now + UsbfsSession.chainTime
        chainDeadline = deadline
        return (transfer, 0, deadline)
    }

    private mutating func extendChain(_ urb: borrowing PreparedURB) -> UsbfsTransfer? {
        guard let chain, urb.isContinuation, urb.isIn else { return nil }
        let transfer = transfers[chain]
        guard transfer.endpoint == urb.endpoint, transfer.streamID == urb.streamID,
            transfer.length + urb.slot.length <= UsbfsSession.chainLimit,
            case .urbs(let first, let last) = transfer.purpose
        else { return nil }
        let slot = insert(urb.slot, into: transfer, offset: transfer.length)
        urbs[last].next = slot
        transfer.purpose = .urbs(first: first, last: slot)
        transfer.length += urb.slot.length
        if !urb.mayGather { closeChain() }
        return transfer
    }

    private mutating func insert(_ slot: UsbfsURBSlot, into transfer: UsbfsTransfer, offset: Int) -> Int {
        lastOrder += 1
        var slot = slot
        slot.phase = .pending
        slot.order = lastOrder
        slot.transfer = transfer.index
        slot.offset = offset
        if let index = freeURBs.popLast() {
            urbs[index] = slot
            return index
        }
        urbs.append(slot)
        return urbs.count - 1
    }

    private mutating func begin(_ urb: inout PreparedURB) -> UsbfsTransfer {
        let transfer = makeTransfer()
        let slot = insert(urb.slot, into: transfer, offset: 0)
        transfer.purpose = .urbs(first: slot, last: slot)
        transfer.endpoint = urb.endpoint
        transfer.interface = urb.interface
        transfer.isBulk = urb.isBulk
        transfer.isContinuation = urb.isContinuation
        transfer.streamID = urb.streamID
        transfer.flags = urb.flags
        transfer.setup = urb.setup
        transfer.length = urb.slot.length
        transfer.isIn = urb.isIn
        transfer.buffer = urb.buffer.take()
        transfer.packets = urb.packets.take()
        if urb.isBulk { lines[urb.endpoint.index].append(transfer.index) }
        return transfer
    }

    mutating func makeTransfer() -> UsbfsTransfer {
        pendingTransfers += 1
        lastOrder += 1
        let transfer: UsbfsTransfer
        if let index = freeTransfers.popLast() {
            transfer = transfers[index]
        } else {
            transfer = UsbfsTransfer(index: transfers.count)
            transfers.append(transfer)
        }
        transfer.order = lastOrder
        return transfer
    }

    /// Nothing is added to the chain that is gathering: it may go.
    mutating func closeChain() {
        guard let index = chain else { return }
        chain = nil
        chainDeadline = nil
        queue(transfers[index])
    }

    mutating func queue(_ transfer: UsbfsTransfer) {
        transfer.phase = .queued
        guard transfer.isBulk else {
            transfer.phase = .ready
            return ready.append(transfer.index)
        }
        promote(transfer.endpoint)
    }

    /// Readies what may go: a continuation only when all before it on its endpoint have ended.
    mutating func promote(_ endpoint: EndpointAddress) {
        let line = lines[endpoint.index]
        for (position, index) in line.enumerated() {
            let transfer = transfers[index]
            switch transfer.phase {
            case .queued:
                if transfer.isContinuation, transfer.isIn, position > 0 { return }
                transfer.phase = .ready
                ready.append(index)
            case .gathering: return
            case .free, .ready, .submitting, .inFlight, .completed: continue
            }
        }
    }
}
