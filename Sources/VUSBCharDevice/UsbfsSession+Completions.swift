// SPDX-License-Identifier: Apache-2.0

internal import DequeModule
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// The way up: what transfers come to, and for whom.
extension UsbfsSession.State {
    mutating func complete(_ index: Int, _ urb: inout URB?, _ effects: inout UsbfsEffects) {
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
    mutating func end(
        _ transfer: UsbfsTransfer, _ status: URBStatus, _ urb: inout URB?, _ effects: inout UsbfsEffects
    ) {
        lastUse = .now
        pendingTransfers -= 1
        leaveLine(transfer)
        transfer.phase = .completed
        var result = UsbfsResult(status, urb)
        if status == .cancelled { result.status = cancelStatus(transfer) }
        // The kernel shuts endpoints down as a device goes; it says ENODEV only of what is asked for afterwards.
        if status == .noDevice { result.status = UsbfsTransfer.Cancel.shutdown.status }
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
        answerEnded(&effects)
        answerRelease(&effects)
        tellOfGone(&effects)
    }

    /// What nobody here has cancelled the device has: it's being drained, or has another setting (U17, U21).
    private func cancelStatus(_ transfer: UsbfsTransfer) -> Int32 {
        transfer.cancel?.status ?? UsbfsTransfer.Cancel.shutdown.status
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
                status = restStatus(urbs[index], transfer)
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

    /// Of a URB behind the one in which its chain has ended.
    private func restStatus(_ slot: UsbfsURBSlot, _ transfer: UsbfsTransfer) -> Int32 {
        if slot.isDiscarded { return UsbfsTransfer.Cancel.kill.status }
        // With its endpoint all of them are gone.
        return transfer.cancel == .shutdown ? UsbfsTransfer.Cancel.shutdown.status : UsbfsTransfer.Cancel.unlink.status
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

    /// U21: the last one has ended of a device that is gone.
    private mutating func tellOfGone(_ effects: inout UsbfsEffects) {
        guard phase != .open, pendingTransfers == 0 else { return }
        answerGone(&effects)
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

    mutating func cancelAll(_ kind: UsbfsTransfer.Cancel, _ effects: inout UsbfsEffects) {
        // The last first: what waits for another isn't to begin.
        for transfer in transfers.filter(\.isPending).sorted(by: { $0.order > $1.order }) {
            cancel(transfer, kind, &effects)
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
