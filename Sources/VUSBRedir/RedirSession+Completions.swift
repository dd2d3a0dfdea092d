// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// Ends of URBs, on the source's threads.
extension RedirSession {
    func urbCompleted(_ urb: consuming URB) {
        let slot = Int(urb.context)
        let purpose = state.withLock { $0.slots[slot].purpose }
        switch purpose {
        case .transfer(let transfer): answer(transfer, slot, urb)
        case .setConfiguration, .setInterface:
            let status = urb.status
            state.withLock { $0.slots.release(slot) }
            give(Job(purpose, status))
        case .stream(let index, let generation): continueStream(index, generation, slot, urb)
        }
    }

    private func answer(_ transfer: RedirTransfer, _ slot: Int, _ urb: consuming URB) {
        let status = RedirStatusCode(urb.status)
        let length = min(urb.actualLength, urb.requestedLength)
        let dataCount = urb.direction == .in ? min(length, urb.bufferCapacity) : 0
        // What isn't handed on needn't wait for the peer.
        if dataCount == 0 { urb.buffer = nil }
        var urb: URB? = consume urb
        let now = ContinuousClock.now
        let isToBeSent = state.withLock { state -> Bool in
            state.lastTransfer = now
            guard state.phase != .closed, !state.slots[slot].isAnswered else {
                state.slots.release(slot)
                return false
            }
            let header = RedirHeader(
                answering: transfer, status, length: length, dataCount: dataCount, state.form)
            state.slots.setHeader(header, of: slot)
            state.slots[slot].dataCount = dataCount
            state.slots[slot].byteCount = header.count + dataCount
            state.slots[slot].urb = urb.take()
            state.finish(slot, transfer)
            return true
        }
        if isToBeSent { flush() }
    }
}
