// SPDX-License-Identifier: Apache-2.0

internal import DequeModule
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// The way down: what is ready reaches the device in order.
extension UsbfsSession {
    /// Submits what is ready, unless another thread does so.
    /// - Parameter wanting: the transfer of a SUBMITURB that isn't answered yet.
    /// - Returns: the errno with which that was refused at once (U2), of which nothing is left then; else 0.
    @discardableResult
    func pump(wanting: UsbfsTransfer? = nil) -> Int32 {
        var refusal: Int32 = 0
        guard state.withLock({ $0.beginPumping() }) else { return 0 }
        while let transfer = state.withLock({ $0.nextReady() }) {
            let token = device.submit(makeURB(transfer))
            var effects = UsbfsEffects()
            let errno = state.withLock { state in
                state.submitted(transfer, token, isWanted: transfer === wanting, &effects)
            }
            if errno != 0 { refusal = errno }
            // May make others ready, which are the next of this loop.
            effects.pumps = false
            perform(effects)
        }
        return refusal
    }

    /// In the phase `submitting` its parts are this thread's.
    private func makeURB(_ transfer: UsbfsTransfer) -> URB {
        var buffer = transfer.buffer.take()
        let hasBuffer =
            switch buffer {
            case .some: true
            case .none: false
            }
        // Without one the device refuses it, as it does what has none to be had.
        if !hasBuffer, transfer.length > 0 { buffer = device.pool.takeAny(transfer.length) }
        var urb = URB(
            endpoint: transfer.endpoint, setup: transfer.setup, buffer: buffer, requestedLength: transfer.length,
            handler: self, context: UInt64(transfer.index))
        urb.flags = transfer.flags
        urb.streamID = transfer.streamID
        urb.packets = transfer.packets.take()
        return urb
    }

    /// On whatever thread ends it.
    func urbCompleted(_ urb: consuming URB) {
        let index = Int(urb.context)
        var urb: URB? = consume urb
        var effects = UsbfsEffects()
        state.withLock { state in state.complete(index, &urb, &effects) }
        perform(effects)
    }

    /// Has the chain that is gathering go, as its opener does something else.
    func closeChain() {
        let isAny = state.withLock { state in
            guard state.chain != nil else { return false }
            state.closeChain()
            return true
        }
        if isAny { pump() }
    }

    func perform(_ effects: UsbfsEffects) {
        for token in effects.cancels { device.cancel(token) }
        for (wait, answer) in effects.answers { self.answer(wait, answer) }
        if effects.freedBytes > 0 { node.free(effects.freedBytes) }
        for transfer in effects.ended { finish(transfer) }
        effects.poller?.notify()
        if effects.pumps { pump() }
    }

    private func answer(_ wait: UsbfsWait, _ answer: UsbfsEffects.Answer) {
        guard let reply = wait.reply.take() else { return }
        switch answer {
        case .error(let errno): reply.error(errno)
        case .result(let value): reply.result(value)
        case .again(let ranges): reply.again(ranges)
        case .data(let transfer):
            reply.transfer(transfer)
            finish(transfer)
        }
    }

    /// Frees what is in a transfer that has ended and isn't needed any more, outside of the lock, and then its place.
    func finish(_ transfer: UsbfsTransfer) {
        transfer.urb = nil
        transfer.buffer = nil
        transfer.packets = nil
        state.withLock { state in
            transfer.clear()
            state.freeTransfers.append(transfer.index)
        }
    }
}

extension UsbfsReply {
    /// The data of a call's transfer.
    fileprivate consuming func transfer(_ transfer: UsbfsTransfer) {
        switch transfer.urb {
        case .some(let urb):
            switch urb.buffer {
            case .some(let buffer): data(buffer, count: min(urb.actualLength, buffer.capacity))
            case .none: result(0)
            }
        case .none: result(0)
        }
    }
}

extension UsbfsSession.State {
    fileprivate mutating func beginPumping() -> Bool {
        guard !isPumping, !ready.isEmpty else { return false }
        isPumping = true
        return true
    }

    /// Ends the pumping where there is nothing more.
    fileprivate mutating func nextReady() -> UsbfsTransfer? {
        while let index = ready.popFirst() {
            // It may have been cancelled meanwhile.
            guard transfers[index].phase == .ready else { continue }
            transfers[index].phase = .submitting(isCancelled: false)
            return transfers[index]
        }
        isPumping = false
        return nil
    }

    /// `VirtualDevice.submit` has returned.
    fileprivate mutating func submitted(
        _ transfer: UsbfsTransfer, _ token: URBToken, isWanted: Bool, _ effects: inout UsbfsEffects
    ) -> Int32 {
        if let refusal = transfer.refusal {
            transfer.refusal = nil
            // SET_ADDRESS, a stall: what the device itself would have answered.
            guard isWanted, refusal != .success, refusal != .stall, dropRefused(transfer, &effects) else {
                var none: URB?
                end(transfer, refusal, &none, &effects)
                return 0
            }
            return -refusal.rawValue
        }
        guard case .submitting(let isCancelled) = transfer.phase else { return 0 }
        transfer.phase = .inFlight(token)
        if isCancelled { effects.cancels.append(token) }
        return 0
    }

    /// Nothing is left of a URB that was refused at once; but of one that others have joined meanwhile.
    private mutating func dropRefused(_ transfer: UsbfsTransfer, _ effects: inout UsbfsEffects) -> Bool {
        guard case .urbs(let first, let last) = transfer.purpose, first == last else { return false }
        leaveLine(transfer)
        effects.freedBytes += urbs[first].cost
        urbs[first] = UsbfsURBSlot()
        freeURBs.append(first)
        transfer.phase = .completed
        pendingTransfers -= 1
        effects.ended.append(transfer)
        promote(after: transfer, &effects)
        return true
    }

    mutating func leaveLine(_ transfer: UsbfsTransfer) {
        guard transfer.isBulk, let position = lines[transfer.endpoint.index].firstIndex(of: transfer.index) else {
            return
        }
        lines[transfer.endpoint.index].remove(at: position)
    }

    mutating func promote(after transfer: UsbfsTransfer, _ effects: inout UsbfsEffects) {
        guard transfer.isBulk else { return }
        promote(transfer.endpoint)
        if !ready.isEmpty { effects.pumps = true }
    }
}
