// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// What a peer asks for. All of it is on the loop's thread, in the order in which it was said.
extension USBIPSession {
    /// Takes commands apart and carries them out.
    /// - Returns: how many bytes have been taken.
    func read(_ bytes: RawSpan) throws(USBIPViolation) -> Int {
        var position = 0
        while position < bytes.byteCount, !isFull() {
            if reader.isBetweenCommands {
                let id = deviceID
                let command = try reader.scratch.whole(USBIPNumbers.headerBytes, of: bytes, at: &position) {
                    header throws(USBIPViolation) in try USBIPCommand(header, deviceID: id)
                }
                if let command { try begin(command) }
            } else {
                proceed(bytes, &position)
            }
        }
        return position
    }

    private func begin(_ command: USBIPCommand) throws(USBIPViolation) {
        switch command {
        case .unlink(let seqnum, let target):
            if early.isAhead(of: target, by: seqnum), early.keep(seqnum, of: target) { return }
            early.note(seqnum)
            unlink(seqnum, target)
        case .submit(let submit):
            guard !isInFlight(submit.seqnum) else { throw .seqnum(submit.seqnum) }
            var inbound = USBIPInbound(submit)
            settleEarly(&inbound)
            prepare(&inbound)
            guard inbound.isWhole else {
                reader.inbound = consume inbound
                return
            }
            carryOut(inbound)
        }
    }

    private func isInFlight(_ seqnum: UInt32) -> Bool { state.withLock { $0.seqnums[seqnum] != nil } }

    /// U12, U13: UNLINKs that came before the SUBMIT they mean.
    private func settleEarly(_ inbound: inout USBIPInbound) {
        let seqnum = inbound.submit.seqnum
        early.note(seqnum)
        guard !early.isEmpty else { return }
        inbound.unlink = early.take(of: seqnum)
        for stale in early.takeAll(before: seqnum) { enqueue(.reply(USBIPReply(unlink: stale, .success))) }
    }

    /// Takes the memory for what follows the header.
    private func prepare(_ inbound: inout USBIPInbound) {
        let submit = inbound.submit
        if inbound.unlink != nil { inbound.refusal = .cancelled }
        if inbound.refusal == nil {
            let total = state.withLock { $0.bytesInFlight } + submit.length
            inbound.refusal = total > USBIPLimits.bytes ? .noMemory : nil
        }
        if inbound.refusal == nil, submit.dataCount > 0 {
            inbound.buffer = device.sendPool.takeAny(submit.dataCount)
            if inbound.buffer == nil { inbound.refusal = .noMemory }
        }
        // Those of a refused transfer, too: its answer has them.
        guard submit.packetCount > 0 else { return }
        inbound.packets = IsoPacketTable(count: submit.packetCount, from: device.pool)
    }

    private func proceed(_ bytes: RawSpan, _ position: inout Int) {
        guard var inbound = reader.inbound.take() else { return }
        position += inbound.takeData(bytes, from: position)
        while inbound.received == inbound.submit.dataCount, !inbound.isWhole, position < bytes.byteCount {
            let packet = reader.scratch.whole(USBIPNumbers.packetBytes, of: bytes, at: &position) {
                IsoPacket($0, at: 0)
            }
            if let packet { inbound.take(packet) }
        }
        guard inbound.isWhole else {
            reader.inbound = consume inbound
            return
        }
        carryOut(inbound)
    }

    // MARK: - SUBMIT

    private func carryOut(_ inbound: consuming USBIPInbound) {
        let submit = inbound.submit
        if inbound.refusal == nil, submit.isPortReset { return resetDevice(inbound) }
        var memory: USBIPMemory?
        if inbound.refusal == nil, submit.direction == .in, submit.length > 0 {
            if submit.length >= USBIPLimits.memory, submit.packetCount == 0 {
                let taken = memories.take(submit.length)
                inbound.buffer = taken.lend()
                memory = taken
            } else {
                inbound.buffer = device.pool.takeAny(submit.length)
                if inbound.buffer == nil { inbound.refusal = .noMemory }
            }
        }
        guard inbound.refusal == nil, let slot = state.withLock({ $0.take(submit, memory) }) else {
            inbound.buffer = nil
            memory?.release()
            return refuse(inbound)
        }
        var urb = URB(
            endpoint: submit.address, setup: submit.endpoint == 0 ? submit.setup : nil,
            buffer: inbound.buffer.take(), requestedLength: submit.length, handler: self, context: UInt64(slot))
        urb.flags = submit.urbFlags
        urb.startFrame = submit.startFrame
        urb.packets = inbound.packets.take()
        hand(urb, slot)
    }

    private func hand(_ urb: consuming URB, _ slot: Int) {
        let token = device.submit(urb)
        // Once it has been answered the slot is nobody's: only this thread takes one.
        state.withLock { state in
            if state.slots[slot].phase == .submitting { state.slots[slot].phase = .inFlight(token) }
        }
        noteCommand()
    }

    /// A15 of USBIP.md.
    private func resetDevice(_ inbound: consuming USBIPInbound) {
        let submit = inbound.submit
        switch device.admission {
        case .admitting: break
        // A13, A14.
        case .draining: inbound.refusal = .busy
        case .closed(let status): inbound.refusal = status
        }
        guard inbound.refusal == nil, let slot = state.withLock({ $0.take(submit, nil) }) else {
            return refuse(inbound)
        }
        Task { [self] in
            var status = URBStatus.success
            do throws(USBError) {
                try await device.reset()
            } catch {
                status = error.code == .gone ? .noDevice : error.code == .busy ? .busy : .io
            }
            // It was never the device's: it comes back from here.
            let urb = URB(
                endpoint: .control, setup: submit.setup, buffer: nil, requestedLength: 0, handler: self,
                context: UInt64(slot))
            urb.complete(status)
        }
    }

    private func refuse(_ inbound: consuming USBIPInbound) {
        if let unlink = inbound.unlink { return enqueue(.reply(USBIPReply(unlink: unlink, .cancelled))) }
        let submit = inbound.submit
        let status = inbound.refusal ?? .noMemory
        let reply = USBIPReply(submit: submit.seqnum, status, packetCount: submit.wirePacketCount)
        guard let packets = inbound.packets.take() else { return enqueue(.reply(reply)) }
        var message = ByteBuffer()
        message.append(reply)
        for index in 0..<packets.count { message.append(packets[index]) }
        enqueue(.message(message))
    }

    /// Behind what has ended before.
    private func enqueue(_ due: USBIPDue) {
        state.withLock { $0.ready.append(due) }
        noteCommand()
    }

    // MARK: - UNLINK

    /// U1 to U6 of USBIP.md.
    private func unlink(_ seqnum: UInt32, _ target: UInt32) {
        let found = state.withLock { state -> URBToken?? in
            guard let slot = state.seqnums[target], state.slots[slot].phase != .finished,
                state.slots[slot].unlink == nil
            else { return nil }
            state.slots[slot].unlink = seqnum
            guard case .inFlight(let token) = state.slots[slot].phase else { return .some(nil) }
            return token
        }
        guard let token = found else { return enqueue(.reply(USBIPReply(unlink: seqnum, .success))) }
        // Nil for a reset: it ends by itself.
        if let token { device.cancel(token) }
    }
}

extension USBIPSession.State {
    /// Nil where none is left.
    fileprivate mutating func take(_ submit: USBIPSubmit, _ memory: USBIPMemory?) -> Int? {
        guard let slot = slots.take(submit, memory) else { return nil }
        seqnums[submit.seqnum] = slot
        bytesInFlight += submit.length
        return slot
    }
}

extension USBIPFrameReader {
    var isBetweenCommands: Bool {
        switch inbound {
        case .some: false
        case .none: true
        }
    }
}
