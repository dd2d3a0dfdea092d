// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// What comes in, on the loop's thread: answers, and the ends of their URBs.
extension USBIPImportSession {
    /// Takes answers apart and gives their URBs back. `turn` must follow.
    func receive(_ bytes: RawSpan) throws(USBIPServerFault) {
        state.withLock { $0.isAwake = true }
        try pass.run { () throws(USBIPServerFault) in try takeAnswers(bytes) }
    }

    private func takeAnswers(_ bytes: RawSpan) throws(USBIPServerFault) {
        var position = 0
        while position < bytes.byteCount {
            if let current = arrival.take() {
                try proceed(current, bytes, &position)
                continue
            }
            let answer = try scratch.whole(USBIPNumbers.headerBytes, of: bytes, at: &position) {
                header throws(USBIPServerFault) in try USBIPAnswer(header)
            }
            switch answer {
            case nil: break
            case .submit(let answer): try begin(answer)
            case .unlink(let seqnum, let status): try endUnlinked(seqnum, status)
            }
        }
    }

    private func begin(_ answer: USBIPReturn) throws(USBIPServerFault) {
        guard let slot = seqnums.removeValue(forKey: answer.seqnum) else { throw .seqnum(answer.seqnum) }
        var taken: URB?
        state.withLock { state in
            state.slots[slot.index].phase = .receiving
            taken = state.slots[slot.index].urb.take()
        }
        guard let urb = taken.take() else { throw .seqnum(answer.seqnum) }
        do throws(USBIPServerFault) {
            try USBIPArrival.check(answer, urb)
        } catch {
            lose(urb, slot)
            throw error
        }
        let current = USBIPArrival(answer, urb, slot: slot)
        if current.isWhole { finish(current) } else { arrival = consume current }
    }

    private func proceed(
        _ current: consuming USBIPArrival, _ bytes: RawSpan, _ position: inout Int
    ) throws(USBIPServerFault) {
        do throws(USBIPServerFault) {
            try current.take(bytes, &position, &scratch)
        } catch {
            // `end` gives its URB back.
            arrival = consume current
            throw error
        }
        if current.isWhole { finish(current) } else { arrival = consume current }
    }

    private func finish(_ arrival: consuming USBIPArrival) {
        var arrival = arrival
        let slot = arrival.slot
        let length = arrival.finish()
        let status = arrival.answer.status
        end(slot, arrival.giveUp(), status, length)
    }

    /// RET_UNLINK: C2 to C5.
    private func endUnlinked(_ seqnum: UInt32, _ status: URBStatus) throws(USBIPServerFault) {
        guard let slot = unlinks.removeValue(forKey: seqnum) else { throw .seqnum(seqnum) }
        var taken: URB?
        var answered: UInt32?
        state.withLock { state in
            if state.slots[slot.index].phase == .ended { return state.slots.release(slot.index) }
            state.slots[slot.index].unlink = nil
            state.slots[slot.index].phase = .receiving
            answered = state.slots[slot.index].seqnum
            taken = state.slots[slot.index].urb.take()
        }
        if let answered { seqnums[answered] = nil }
        guard let urb = taken.take() else { return }
        end(slot, urb, status == .success ? .cancelled : status, 0)
    }

    private func end(_ slot: URBToken, _ urb: consuming URB, _ status: URBStatus, _ length: Int) {
        var final = status
        var isOwn = false
        let isChange = urb.isUSBIPChange
        let operation = urb.operation
        let descriptors = isChange ? descriptors : Self.noDescriptors
        state.withLock { state in
            if status == .cancelled { final = state.slots[slot.index].ending ?? .cancelled }
            isOwn = state.slots[slot.index].isOwn
            state.ended(slot.index)
            if status == .success, isChange { state.note(operation, descriptors: descriptors) }
        }
        if isChange { finishChange() }
        giveBack(urb, final, length: length, isOwn: isOwn)
        startChange()
    }

    func lose(_ urb: consuming URB, _ slot: URBToken) {
        let isOwn = state.withLock { state in
            defer { state.ended(slot.index) }
            return state.slots[slot.index].isOwn
        }
        giveBack(urb, .noDevice, isOwn: isOwn)
    }
}

extension USBIPArrival {
    consuming func giveUp() -> URB { urb }
}
