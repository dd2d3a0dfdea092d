// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// What whoever's turn it is does, and how a source's thread comes by it.
extension USBIPSession {
    /// Makes answers to all that is due.
    /// - Returns: false where nothing was; it's nobody's turn then.
    func makeAnswersOrEndTurn() -> Bool {
        let hasTaken = state.withLock { state in
            let hasTaken = state.takeDue(&draining)
            if !hasTaken, state.turn != .gone { state.turn = .nobody }
            return hasTaken
        }
        if hasTaken { makeAnswersToTaken() }
        return hasTaken
    }

    /// Likewise, and keeps the turn.
    func makeAnswers() {
        if state.withLock({ $0.takeDue(&draining) }) { makeAnswersToTaken() }
    }

    private func makeAnswersToTaken() {
        var isUse = false
        for due in draining {
            switch due {
            case .slot(let slot):
                let finished = state.withLock { $0.release(slot) }
                isUse = isUse || finished.isUse
                append(finished)
            case .reply(let reply): outgoing.append(reply)
            case .message(let message): outgoing.append(message)
            }
        }
        draining.removeAll(keepingCapacity: true)
        if isUse { noteUse() }
    }

    /// K8: nobody is told of what has ended; its URBs have the session as long as it has them.
    func discard() {
        makeAnswers()
        outgoing.give(to: &sending)
        sending.removeAll()
    }

    private func noteUse() {
        let now = CoarseInstant.now
        state.withLock { $0.lastTransfer = now }
    }

    /// - Returns: whether all has been sent.
    func sendDirectly() -> Bool {
        guard let sender = state.withLock({ $0.isDirect ? $0.sender : nil }) else { return false }
        if sender.send(&sending) { return true }
        failure = sender.failure
        state.withLock { $0.isDirect = false }
        return false
    }

    // MARK: - The source's threads

    func urbCompleted(_ urb: consuming URB) {
        let slot = Int(urb.context)
        var urb: URB? = consume urb
        let next = state.withLock { state in state.complete(slot, &urb) }
        switch next {
        case .nothing: break
        case .wakeLoop: wake()
        case .answer: answerFromSource()
        case .drop: drop(slot)
        case .answerAtEndOfPass: if !CompletionPass.tellAtEnd(self) { answerFromSource() }
        }
    }

    private func drop(_ slot: Int) {
        let finished = state.withLock { $0.release(slot) }
        finished.memory?.release()
    }

    func passEnded() { answerFromSource() }

    /// T3, T6, T8, T9, T11 of USBIP.md.
    private func answerFromSource() {
        for _ in 0..<USBIPLimits.sourceRounds {
            guard makeAnswersOrEndTurn() else {
                if state.withLock({ $0.isEnded || $0.loopWaits }) { wake() }
                return
            }
            outgoing.give(to: &sending)
            guard sending.isEmpty || sendDirectly() else { break }
        }
        handOver()
    }

    private func handOver() {
        let isGone = state.withLock { state in
            if state.turn == .source { state.turn = .loop }
            return state.turn == .gone
        }
        if isGone { discard() } else { wake() }
    }
}

/// What a thread does that has completed a URB.
private enum AfterCompletion {
    case nothing
    /// K8.
    case drop
    case wakeLoop
    case answer
    /// Other URBs of the session may end in the same pass.
    case answerAtEndOfPass
}

extension USBIPSession.State {
    /// A URB has ended.
    fileprivate mutating func complete(_ slot: Int, _ urb: inout URB?) -> AfterCompletion {
        slots[slot].urb = urb.take()
        slots[slot].phase = .finished
        guard turn != .gone else { return .drop }
        ready.append(.slot(slot))
        guard turn == .nobody else { return .nothing }
        turn = isDirect ? .source : .loop
        guard turn == .source else { return .wakeLoop }
        return slots.inUse == 1 ? .answer : .answerAtEndOfPass
    }

    /// - Parameter target: empty.
    /// - Returns: whether there was something.
    fileprivate mutating func takeDue(_ target: inout [USBIPDue]) -> Bool {
        swap(&ready, &target)
        return !target.isEmpty
    }

    /// Takes all out of a slot whose URB has ended.
    fileprivate mutating func release(_ slot: Int) -> USBIPFinished {
        let finished = slots.release(slot)
        if seqnums[finished.seqnum] == slot { seqnums[finished.seqnum] = nil }
        bytesInFlight -= finished.length
        return finished
    }
}
