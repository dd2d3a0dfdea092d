// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// Requests that aren't answered yet.
extension UsbfsSession {
    /// Keeps a request until somebody answers it.
    ///
    /// An interrupt that came early is told from inside the registration, with the request locked in libfuse: so the wait
    /// is there before, without its reply, and an interrupt only marks it.
    /// - Parameter look: under the lock, at the last moment: an answer to be given instead of waiting.
    /// - Returns: false where it was answered.
    @discardableResult
    func park(
        _ reply: consuming UsbfsReply, _ wait: UsbfsWait,
        _ look: (inout State, UsbfsWait) -> UsbfsEffects.Answer? = { _, _ in nil }
    ) -> Bool {
        state.withLock { $0.waits.append(wait) }
        reply.watchInterrupts(of: id)
        var reply: UsbfsReply? = consume reply
        let answer = state.withLock { state -> UsbfsEffects.Answer? in
            wait.reply = reply.take()
            let answer = wait.isInterrupted ? wait.kind.whenInterrupted : look(&state, wait)
            if answer != nil { state.waits.removeAll { $0 === wait } }
            return answer
        }
        guard let answer else { return true }
        var effects = UsbfsEffects()
        effects.answers.append((wait, answer))
        perform(effects)
        return false
    }

    /// As above, of a wait without more to it.
    func park(
        _ reply: consuming UsbfsReply, _ kind: UsbfsWait.Kind,
        _ look: (inout State, UsbfsWait) -> UsbfsEffects.Answer?
    ) {
        let wait = UsbfsWait(reply.request, kind)
        park(reply, wait, look)
    }

    /// U17. Linux, too, has ended the URBs of a claim before it says that the claim is gone.
    func answer(_ reply: consuming UsbfsReply, after ending: UsbfsEnding) {
        park(reply, .ending(interface: ending.interface, order: ending.order)) { state, _ in
            state.isEnding(on: ending.interface, ending.order) ? nil : .result(0)
        }
    }

    /// U20.
    func keep(_ reply: consuming UsbfsReply, _ command: UsbfsCommand, _ argument: UInt64) {
        park(reply, .quiet(command, argument: argument)) { state, _ in
            // A later round may come when its file has been released: nobody would find it there.
            guard state.phase == .open else { return .error(ENODEV) }
            return switch self.node.phase {
            case .quiet: nil
            // It was resumed meanwhile, and nobody saw this one.
            case .serving: .again(UsbfsPlan.firstRound(command, argument: argument))
            case .gone: .error(ENODEV)
            }
        }
    }

    func resume() {
        var effects = UsbfsEffects()
        state.withLock { state in
            state.takeWaits(&effects) { _, wait in
                guard case .quiet(let command, let argument) = wait.kind else { return nil }
                return .again(UsbfsPlan.firstRound(command, argument: argument))
            }
        }
        perform(effects)
    }

    /// U13. A signal; on a thread of the loop, which may be inside of `park`.
    func interrupted(_ request: UInt) {
        var effects = UsbfsEffects()
        state.withLock { state in
            guard let wait = state.waits.first(where: { $0.request == request }) else { return }
            wait.isInterrupted = true
            let isBeingPrepared =
                switch wait.reply {
                case .some: false
                case .none: true
                }
            guard !isBeingPrepared else { return }
            switch wait.kind {
            case .reap, .quiet: state.answer(wait, .error(EINTR), &effects)
            case .discard, .ending: state.answer(wait, .result(0), &effects)
            case .transfer(let index): state.cancel(state.transfers[index], .kill, &effects)
            case .reset, .release: break
            }
        }
        perform(effects)
    }

    /// On a thread of the loop, at the latest when something's time is over.
    /// - Returns: when to look again.
    func checkTime(_ now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        var effects = UsbfsEffects()
        let next = state.withLock { state in
            if let deadline = state.chainDeadline, deadline <= now {
                state.closeChain()
                effects.pumps = true
            }
            for wait in state.waits {
                guard let deadline = wait.deadline, deadline <= now else { continue }
                wait.deadline = nil
                state.overTime(wait, &effects)
            }
            return state.nextDeadline
        }
        perform(effects)
        return next
    }
}

extension UsbfsPlan {
    /// What a request that was kept is to begin anew with.
    fileprivate static func firstRound(_ command: UsbfsCommand, argument: UInt64) -> CallerRanges {
        let plan = UsbfsPlan(command, argument: argument, input: Span(), outCount: 0)
        guard case .again(let ranges) = plan else { return CallerRanges() }
        return ranges
    }
}

extension UsbfsSession.State {
    var nextDeadline: ContinuousClock.Instant? {
        var next = chainDeadline
        for wait in waits {
            guard let deadline = wait.deadline else { continue }
            next = next.map { min($0, deadline) } ?? deadline
        }
        return next
    }

    /// Takes a wait out, for the answer that it gets.
    mutating func answer(_ wait: UsbfsWait, _ answer: UsbfsEffects.Answer, _ effects: inout UsbfsEffects) {
        waits.removeAll { $0 === wait }
        effects.answers.append((wait, answer))
    }

    /// Answers those that `choose` has an answer for; not those that are being prepared, which look for themselves.
    mutating func takeWaits(
        _ effects: inout UsbfsEffects, _ choose: (inout Self, UsbfsWait) -> UsbfsEffects.Answer?
    ) {
        guard !waits.isEmpty else { return }
        for wait in waits {
            let isReady =
                switch wait.reply {
                case .some: true
                case .none: false
                }
            if isReady, let answer = choose(&self, wait) { self.answer(wait, answer, &effects) }
        }
    }

    fileprivate mutating func overTime(_ wait: UsbfsWait, _ effects: inout UsbfsEffects) {
        switch wait.kind {
        case .transfer(let index):
            wait.isOverTime = true
            cancel(transfers[index], .kill, &effects)
        case .release: answer(wait, .error(0), &effects)
        case .reap, .discard, .reset, .ending, .quiet: break
        }
    }

    /// U21: who waits for something that won't come.
    mutating func answerGone(_ effects: inout UsbfsEffects) {
        let isAnyLeft = !completed.isEmpty || pendingTransfers > 0
        takeWaits(&effects) { _, wait in
            switch wait.kind {
            case .reap: isAnyLeft ? nil : .error(ENODEV)
            case .quiet: .error(ENODEV)
            case .discard, .transfer, .reset, .release, .ending: nil
            }
        }
    }

    func isEnding(on interface: UInt8, _ order: UInt64) -> Bool {
        transfers.contains { $0.isPending && $0.interface == interface && $0.order <= order }
    }

    /// U17: whoever took a claim, once nothing is left that ends with it.
    mutating func answerEnded(_ effects: inout UsbfsEffects) {
        takeWaits(&effects) { state, wait in
            guard case .ending(let interface, let order) = wait.kind else { return nil }
            return state.isEnding(on: interface, order) ? nil : .result(0)
        }
    }

    /// The last one has ended: nothing is left of the opener.
    mutating func answerRelease(_ effects: inout UsbfsEffects) {
        guard phase == .released, pendingTransfers == 0 else { return }
        takeWaits(&effects) { _, wait in wait.kind == .release ? .error(0) : nil }
    }
}
