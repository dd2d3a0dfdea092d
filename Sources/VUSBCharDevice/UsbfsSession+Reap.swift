// SPDX-License-Identifier: Apache-2.0

// `struct iovec` belongs to whichever Clang module Swift saw first.
internal import CFuse3
internal import DequeModule
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// REAPURB, REAPURBNDELAY, DISCARDURB.
extension UsbfsSession {
    func reap(_ context: UsbfsContext, waits: Bool, offer: Int, _ reply: consuming UsbfsReply) {
        if offer > 0, let (slot, transfer) = take(context, offer, reply.caller) {
            // U25. To reap again is what callers do then.
            if slot.needsMoreRounds { return givePiece(slot, transfer, errno: waits ? EINTR : EAGAIN, reply) }
            return give(slot, transfer, reply)
        }
        let caller = reply.caller
        let (offered, isAnyPending) = state.withLock { state in
            (state.offer(context.argument, context.layout, caller), state.pendingTransfers > 0)
        }
        if let offered { return reply.again(offered) }
        guard isAnyPending || node.isConnected else { return reply.error(ENODEV) }
        guard waits else { return reply.error(EAGAIN) }
        park(reply, .reap(context.layout, argument: context.argument)) { state, _ in
            // What was completed before it waited is told to nobody else.
            if let ranges = state.offer(context.argument, context.layout, caller) { return .again(ranges) }
            let isOver = !self.node.isConnected || state.phase != .open
            return isOver && state.pendingTransfers == 0 ? .error(ENODEV) : nil
        }
    }

    /// The URB of an offer, where it's still there (U12).
    private func take(_ context: UsbfsContext, _ offer: Int, _ caller: Int32) -> (UsbfsURBSlot, UsbfsTransfer)? {
        state.withLock { state in
            guard
                let (index, order, given) = state.offers.find(
                    outBytes: offer, argument: context.argument, caller: caller),
                state.urbs[index].order == order, state.urbs[index].phase == .completed,
                state.urbs[index].progress.given(to: caller) == given,
                let position = state.completed.firstIndex(of: index)
            else { return nil }
            var slot = state.urbs[index]
            slot.given = given
            if slot.needsMoreRounds {
                state.urbs[index].progress.note(given + slot.pieceCount, to: caller)
                state.urbs[index].offers = 0
                // Somebody else may reap it while this piece is being written (`letGo`).
                state.transfers[slot.transfer].unreaped += 1
                return (slot, state.transfers[slot.transfer])
            }
            state.completed.remove(at: position)
            state.urbs[index] = UsbfsURBSlot()
            state.freeURBs.append(index)
            return (slot, state.transfers[slot.transfer])
        }
    }

    private func give(_ slot: UsbfsURBSlot, _ transfer: UsbfsTransfer, _ reply: consuming UsbfsReply) {
        reply.give(slot, transfer)
        node.free(slot.cost)
        letGo(of: transfer, tellsPoller: slot.isLong)
    }

    /// It stays where it is, with less to be given to this caller.
    private func givePiece(
        _ slot: UsbfsURBSlot, _ transfer: UsbfsTransfer, errno: Int32, _ reply: consuming UsbfsReply
    ) {
        reply.givePiece(slot, transfer, result: -errno)
        letGo(of: transfer, tellsPoller: true)
    }

    /// The transfer stays as it is until the last of its URBs is given.
    /// - Parameter tellsPoller: after a piece, since whoever is told of changes only takes EAGAIN for the end; and when
    ///   nothing long may be left, since the device's end is told only then (`poll`).
    private func letGo(of transfer: UsbfsTransfer, tellsPoller: Bool) {
        let (isLast, poller) = state.withLock { state in
            transfer.unreaped -= 1
            return (transfer.unreaped == 0, tellsPoller ? state.poller : nil)
        }
        if isLast { finish(transfer) }
        poller?.notify()
    }

    /// U7, U8.
    func discard(_ address: UInt64, _ reply: consuming UsbfsReply) {
        var effects = UsbfsEffects()
        let order = state.withLock { state -> UInt64? in
            guard let index = state.pendingURB(at: address) else { return nil }
            state.urbs[index].isDiscarded = true
            state.cancel(state.transfers[state.urbs[index].transfer], .kill, &effects)
            return state.urbs[index].order
        }
        guard let order else { return reply.error(EINVAL) }
        perform(effects)
        if !state.withLock({ $0.isPending(order) }) { return reply.result(0) }
        park(reply, .discard(order)) { state, _ in state.isPending(order) ? nil : .result(0) }
    }
}

extension UsbfsReply {
    /// Pointer, status, length and error count; packets; data, straight from where the transfer had them.
    fileprivate consuming func give(_ slot: UsbfsURBSlot, _ transfer: UsbfsTransfer) {
        let head = slot.head.bytes
        let packets = slot.packetCount > 0 ? transfer.packetFields(slot.packetCount) : []
        // SAFETY: the arrays outlive the call; the transfer keeps its buffer until its last URB is given, and the
        // data of this one lie in it (`deal`). All are only read.
        unsafe control(0) { send in
            unsafe head.withUnsafeBytes { head in
                unsafe packets.withUnsafeBytes { packets in
                    unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: 3) { parts in
                        let count = unsafe slot.gather(head, packets, transfer, parts)
                        unsafe send(UnsafeBufferPointer(rebasing: UnsafeBufferPointer(parts)[..<count]))
                    }
                }
            }
        }
    }
}

extension UsbfsReply {
    /// Data alone, with an error.
    fileprivate consuming func givePiece(_ slot: UsbfsURBSlot, _ transfer: UsbfsTransfer, result: Int32) {
        // SAFETY: as in `give`; this piece, too, keeps the transfer's buffer (`unreaped`).
        unsafe control(result) { send in
            guard let data = unsafe transfer.dataStart else {
                return unsafe send(UnsafeBufferPointer(start: nil, count: 0))
            }
            var part = unsafe iovec(iov_base: data + slot.offset + slot.given, iov_len: slot.pieceCount)
            unsafe withUnsafePointer(to: &part) { unsafe send(UnsafeBufferPointer(start: $0, count: 1)) }
        }
    }
}

extension UsbfsURBSlot {
    /// - Returns: how many parts there are.
    @unsafe
    fileprivate func gather(
        _ head: UnsafeRawBufferPointer, _ packets: UnsafeRawBufferPointer, _ transfer: UsbfsTransfer,
        _ parts: UnsafeMutableBufferPointer<iovec>
    ) -> Int {
        unsafe parts[0] = iovec(iov_base: UnsafeMutableRawPointer(mutating: head.baseAddress), iov_len: head.count)
        var count = 1
        if packets.count > 0 {
            unsafe parts[count] = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: packets.baseAddress), iov_len: packets.count)
            count += 1
        }
        if pieceCount > 0, let data = unsafe transfer.dataStart {
            unsafe parts[count] = iovec(iov_base: data + offset + given, iov_len: pieceCount)
            count += 1
        }
        return count
    }
}

extension UsbfsTransfer {
    /// Valid as long as its URB is there.
    fileprivate var dataStart: UnsafeMutableRawPointer? {
        @unsafe get {
            switch urb {
            case .some(let urb):
                switch urb.buffer {
                case .some(let buffer): unsafe buffer.baseAddress
                case .none: nil
                }
            case .none: nil
            }
        }
    }

    /// `struct usbdevfs_iso_packet_desc`, as many as the URB has.
    fileprivate func packetFields(_ count: Int) -> [UInt8] {
        var fields = UsbfsFields(count: count * UsbfsABI.packetSize)
        for index in 0..<count {
            let packet =
                switch urb {
                case .some(let urb): urb.packet(at: index)
                case .none: nil as IsoPacket?
                }
            guard let packet else { continue }
            fields.put(packet.length, at: index * UsbfsABI.packetSize)
            fields.put(min(packet.actualLength, packet.length), at: index * UsbfsABI.packetSize + 4)
            fields.put(UInt32(bitPattern: packet.status.rawValue), at: index * UsbfsABI.packetSize + 8)
        }
        return fields.bytes
    }
}

extension UsbfsSession.State {
    /// Offers the first URB that nobody was offered, or the first.
    mutating func offer(_ argument: UInt64, _ layout: UsbfsLayout, _ caller: Int32) -> CallerRanges? {
        guard let index = completed.first(where: { urbs[$0].offers == 0 }) ?? completed.first else { return nil }
        urbs[index].offers += 1
        var urb = urbs[index]
        urb.given = urb.progress.given(to: caller)
        // What this caller's pointers are like is for its own pointer; the URB is laid out as it was submitted.
        return offers.make(index, urb, argument: argument, caller: caller)
    }

    /// Whoever waits: the first one back gets it (U12).
    mutating func offerToAll(_ effects: inout UsbfsEffects) {
        guard !completed.isEmpty else { return }
        takeWaits(&effects) { state, wait in
            guard case .reap(let layout, let argument) = wait.kind else { return nil }
            return state.offer(argument, layout, wait.reply?.caller ?? 0).map { .again($0) }
        }
    }

    /// The pending URB that was submitted first with that address.
    fileprivate func pendingURB(at address: UInt64) -> Int? {
        urbs.indices.filter { urbs[$0].phase == .pending && urbs[$0].address == address }
            .min { urbs[$0].order < urbs[$1].order }
    }

    fileprivate func isPending(_ order: UInt64) -> Bool {
        urbs.contains { $0.order == order && $0.phase == .pending }
    }

    mutating func answerDiscard(_ order: UInt64, _ effects: inout UsbfsEffects) {
        takeWaits(&effects) { _, wait in wait.kind == .discard(order) ? .result(0) : nil }
    }

    /// Nobody is left to reap them.
    mutating func takeCompleted(_ effects: inout UsbfsEffects) {
        while let index = completed.popFirst() {
            let transfer = transfers[urbs[index].transfer]
            effects.freedBytes += urbs[index].cost
            urbs[index] = UsbfsURBSlot()
            freeURBs.append(index)
            transfer.unreaped -= 1
            if transfer.unreaped == 0 { effects.ended.append(transfer) }
        }
    }
}
