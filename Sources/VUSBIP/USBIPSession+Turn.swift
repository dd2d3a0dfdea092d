// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// Whose turn it is to answer.
enum USBIPTurn {
    /// Whoever has something to answer takes it.
    case nobody
    /// The loop's: it reads, or has been woken.
    case loop
    /// That of a thread which has completed a URB.
    case source
    /// All that ends is dropped.
    case gone
}

/// What whoever's turn it is does, and how a source's thread comes by it.
extension USBIPSession {
    /// - Returns: false where there was nothing to answer; where `orEndTurn`, it's nobody's turn then.
    func makeAnswers(orEndTurn: Bool) -> Bool {
        let isEnded = state.withLock { state -> Bool? in
            swap(&state.ready, &draining)
            if state.turn == .gone { draining.removeAll() }
            guard draining.isEmpty else { return state.isEnded }
            if orEndTurn, state.turn != .gone { state.turn = .nobody }
            return nil
        }
        guard let isEnded else { return false }
        var isUse = false
        for ended in draining {
            switch ended {
            case .slot(let slot):
                let finished = state.withLock { $0.release(slot) }
                isUse = isUse || finished.isUse
                answer(finished, isEnded: isEnded)
            case .reply(let reply): outgoing.append(reply)
            case .message(let message): outgoing.append(message)
            }
        }
        draining.removeAll(keepingCapacity: true)
        if isUse { noteUse() }
        return true
    }

    private func noteUse() {
        let now = CoarseInstant.now
        state.withLock { $0.lastTransfer = now }
    }

    /// - Returns: whether all has been sent.
    func sendDirectly() -> Bool {
        guard let sender = state.withLock({ $0.isDirect ? $0.sender : nil }) else { return false }
        if sender.send(&sending) { return true }
        state.withLock { $0.isDirect = false }
        return false
    }

    // MARK: - The source's threads

    func urbCompleted(_ urb: consuming URB) {
        let slot = Int(urb.context)
        var urb: URB? = consume urb
        let turn = state.withLock { state -> USBIPTurn in
            guard state.turn != .gone else { return .gone }
            state.slots[slot].urb = urb.take()
            state.slots[slot].phase = .finished
            state.ready.append(.slot(slot))
            guard state.turn == .nobody else { return .nobody }
            state.turn = state.isDirect ? .source : .loop
            return state.turn
        }
        switch turn {
        case .nobody, .gone: break
        case .loop: wake()
        case .source: answerFromSource()
        }
    }

    /// T3 to T6 of USBIP.md.
    private func answerFromSource() {
        while makeAnswers(orEndTurn: true) {
            outgoing.give(to: &sending)
            guard sending.isEmpty || sendDirectly() else {
                let isThere = state.withLock { state in
                    if state.turn == .source { state.turn = .loop }
                    return state.turn == .loop
                }
                if isThere { wake() }
                return
            }
        }
        // The loop waits for the end of this turn.
        if state.withLock({ $0.isEnded }) { wake() }
    }
}

extension USBIPSession.State {
    /// Takes all out of a slot whose URB has ended.
    fileprivate mutating func release(_ slot: Int) -> USBIPFinished {
        let finished = slots.release(slot)
        if seqnums[finished.seqnum] == slot { seqnums[finished.seqnum] = nil }
        bytesInFlight -= finished.length
        return finished
    }
}
