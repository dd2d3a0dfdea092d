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
        if !hasBuffer, transfer.length > 0 { buffer = device.pool.take(transfer.length) }
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

    private mutating func leaveLine(_ transfer: UsbfsTransfer) {
        guard transfer.isBulk, let position = lines[transfer.endpoint.index].firstIndex(of: transfer.index) else {
            return
        }
        lines[transfer.endpoint.index].remove(at: position)
    }

    private mutating func promote(after transfer: UsbfsTransfer, _ effects: inout UsbfsEffects) {
        guard transfer.isBulk else { return }
        promote(transfer.endpoint)
        if !ready.isEmpty { effects.pumps = true }
    }

    // MARK: - The way up

    fileprivate mutating func complete(_ index: Int, _ urb: inout URB?, _ effects: inout UsbfsEffects) {
        let transfer = transfers[index]
        let (status, isRefused) =
            switch urb {
            case .some(let urb): (urb.status, urb.token == .none)
            case .none: (URBStatus.io, false)
            }
        if isRefused {
            transfer.refusal = status
            return
        }
        end(transfer, status, &urb, &effects)
    }

    /// - Parameter urb: taken where its data or packets are wanted.
    private mutating func end(
        _ transfer: UsbfsTransfer, _ status: URBStatus, _ urb: inout URB?, _ effects: inout UsbfsEffects
    ) {
        lastUse = .now
        pendingTransfers -= 1
        leaveLine(transfer)
        transfer.phase = .completed
        var result = UsbfsResult(status, urb)
        if status == .cancelled { result.status = cancelStatus(transfer) }
        // Packets tell of themselves.
        if status == .partial { result.status = 0 }
        switch transfer.purpose {
        case .urbs(let first, _):
            deal(transfer, from: first, result)
            if result.packetCount > 0 || (transfer.isIn && result.actualLength > 0) { transfer.urb = urb.take() }
            let isFailed = result.status != 0 || isLastShort(transfer)
            // What was cancelled fails nobody else.
            if transfer.isBulk, isFailed, status != .cancelled { failChain(transfer.endpoint, &effects) }
        case .call(let wait, let call): endCall(transfer, wait, call, result, &urb, &effects)
        }
        promote(after: transfer, &effects)
        tellOfCompleted(transfer, &effects)
        answerRelease(&effects)
    }

    private func cancelStatus(_ transfer: UsbfsTransfer) -> Int32 {
        transfer.cancel?.status ?? UsbfsTransfer.Cancel.kill.status
    }

    private func isLastShort(_ transfer: UsbfsTransfer) -> Bool {
        guard case .urbs(let first, _) = transfer.purpose else { return false }
        var index = first
        while index >= 0 {
            if urbs[index].status != 0 { return true }
            index = urbs[index].next
        }
        return false
    }

    /// Deals out what a transfer came to: all but the last URB of a chain are whole where it came that far.
    private mutating func deal(_ transfer: UsbfsTransfer, from first: Int, _ result: UsbfsResult) {
        var left = result.actualLength
        var isOver = false
        var index = first
        while index >= 0 {
            let length = min(left, urbs[index].length)
            let isWhole = length == urbs[index].length
            left -= length
            let isLast = urbs[index].next < 0
            var status: Int32 = 0
            if isOver {
                status = urbs[index].isDiscarded ? UsbfsTransfer.Cancel.kill.status : UsbfsTransfer.Cancel.unlink.status
            } else if !isWhole || (isLast && result.status != 0) {
                isOver = true
                status = endStatus(urbs[index], transfer, result)
                if status == 0, !isWhole, urbs[index].isShortNotOK { status = URBStatus.shortNotOK.rawValue }
            }
            urbs[index].status = status
            urbs[index].actualLength = length
            urbs[index].errorCount = result.errorCount
            urbs[index].packetCount = urbs[index].isIsochronous ? result.packetCount : 0
            let shown = urbs[index].isIsochronous && length > 0 ? urbs[index].length : length
            urbs[index].dataCount = transfer.isIn ? shown : 0
            urbs[index].phase = .completed
            transfer.unreaped += 1
            completed.append(index)
            index = urbs[index].next
        }
    }

    private func endStatus(_ slot: UsbfsURBSlot, _ transfer: UsbfsTransfer, _ result: UsbfsResult) -> Int32 {
        guard result.isCancelled, case .urbs(let first, let last) = transfer.purpose, first != last else {
            return result.status
        }
        // U9.
        return slot.isDiscarded || transfer.cancel != .kill || !isAnyDiscarded(first)
            ? result.status : UsbfsTransfer.Cancel.unlink.status
    }

    private func isAnyDiscarded(_ first: Int) -> Bool {
        var index = first
        while index >= 0 {
            if urbs[index].isDiscarded { return true }
            index = urbs[index].next
        }
        return false
    }

    private mutating func endCall(
        _ transfer: UsbfsTransfer, _ wait: UsbfsWait, _ call: UsbfsCall, _ result: UsbfsResult, _ urb: inout URB?,
        _ effects: inout UsbfsEffects
    ) {
        waits.removeAll { $0 === wait }
        var answer = UsbfsEffects.Answer.error(callErrno(wait, result))
        if result.status == 0 {
            switch call {
            case .status: answer = .result(0)
            case .data where transfer.isIn && result.actualLength > 0:
                transfer.urb = urb.take()
                effects.answers.append((wait, .data(transfer)))
                return
            case .data: answer = .result(Int32(result.actualLength))
            }
        }
        effects.answers.append((wait, answer))
        effects.ended.append(transfer)
    }

    private func callErrno(_ wait: UsbfsWait, _ result: UsbfsResult) -> Int32 {
        guard result.isCancelled else { return -result.status }
        if wait.isOverTime { return ETIMEDOUT }
        return wait.isInterrupted ? EINTR : ENODEV
    }

    /// U6.
    private mutating func failChain(_ endpoint: EndpointAddress, _ effects: inout UsbfsEffects) {
        // A copy: what ends leaves the line.
        let line = lines[endpoint.index]
        for index in line {
            guard transfers[index].isContinuation else { return }
            cancel(transfers[index], .unlink, &effects)
        }
        disabled |= UInt32(1) << UInt32(endpoint.index)
    }

    private mutating func tellOfCompleted(_ transfer: UsbfsTransfer, _ effects: inout UsbfsEffects) {
        guard case .urbs(let first, _) = transfer.purpose else { return }
        if phase == .released { return takeCompleted(&effects) }
        var index = first
        while index >= 0 {
            answerDiscard(urbs[index].order, &effects)
            index = urbs[index].next
        }
        offerToAll(&effects)
        effects.poller = poller
    }

    // MARK: - Cancel

    /// Has a pending transfer end; one that the device hasn't got ends at once.
    mutating func cancel(_ transfer: UsbfsTransfer, _ kind: UsbfsTransfer.Cancel, _ effects: inout UsbfsEffects) {
        guard transfer.isPending else { return }
        if transfer.cancel == nil { transfer.cancel = kind }
        switch transfer.phase {
        case .gathering, .queued, .ready:
            if chain == transfer.index {
                chain = nil
                chainDeadline = nil
            }
            ready.removeAll { $0 == transfer.index }
            var none: URB?
            end(transfer, .cancelled, &none, &effects)
        case .submitting: transfer.phase = .submitting(isCancelled: true)
        case .inFlight(let token): effects.cancels.append(token)
        case .free, .completed: break
        }
    }

    mutating func cancelAll(_ effects: inout UsbfsEffects) {
        // The last first: what waits for another isn't to begin.
        for transfer in transfers.filter(\.isPending).sorted(by: { $0.order > $1.order }) {
            cancel(transfer, .kill, &effects)
        }
    }
}

/// How a transfer ended.
private struct UsbfsResult {
    /// Zero, or a negative errno.
    var status: Int32
    var isCancelled: Bool
    var actualLength = 0
    var errorCount = 0
    var packetCount = 0

    init(_ status: URBStatus, _ urb: borrowing URB?) {
        self.status = status.rawValue
        isCancelled = status == .cancelled
        switch urb {
        case .some(let urb):
            // What it can't hold it hasn't got, whatever its source says.
            let room = urb.direction == .in ? urb.bufferCapacity : urb.requestedLength
            actualLength = min(urb.actualLength, urb.requestedLength, room)
            errorCount = urb.errorCount
            packetCount = urb.packetCount
        case .none: break
        }
    }
}
