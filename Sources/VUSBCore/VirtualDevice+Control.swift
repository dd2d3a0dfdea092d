// SPDX-License-Identifier: Apache-2.0

import Synchronization

// The control plane's side: tasks call these, and they may wait.
extension VirtualDevice {
    /// New URBs end with `busy` from now on. A device that is closed stays so.
    package func stopAdmitting() {
        state.withLock { if $0.admission == .admitting { $0.admission = .draining } }
        keyboard?.giveUp()
    }

    /// Undoes `stopAdmitting`.
    package func resumeAdmitting() {
        state.withLock { if $0.admission == .draining { $0.admission = .admitting } }
    }

    /// Cancels all that is in flight, as `cancel` does.
    package func cancelAll() {
        let (held, tokens) = state.withLock { state in
            let tokens = state.table.cancelAll()
            state.callsBelow += tokens.inFlight.count
            return tokens
        }
        endHeld(held)
        guard !tokens.isEmpty else { return }
        for token in tokens { backend.cancel(token) }
        callsReturned(tokens.count)
    }

    /// The device is gone: URBs in flight are cancelled and end with `noDevice`, or with what they achieved; new ones
    /// with `noDevice`.
    package func disconnect() {
        state.withLock { $0.admission = .closed(.noDevice) }
        cancelAll()
    }

    /// Stops admitting and waits for the URBs in flight.
    /// - Returns: how many are still in flight at the deadline; 0 when drained. It still doesn't admit then.
    package func drain(for limit: Duration) async -> Int {
        stopAdmitting()
        return await waitUntilIdle(for: limit)
    }

    /// Ends the attachment: no URB is admitted, those in flight are cancelled and waited for, the backend is closed.
    /// All handlers have returned by the end. Who closes a second time waits for the first. A cancelled task closes
    /// like any other: what was begun is ended.
    package func close() async {
        state.withLock { if case .closed = $0.admission {} else { $0.admission = .closed(.noDevice) } }
        guard await beginClosing() else { return }
        cancelAll()
        // A thread may have been admitted just before, and not be at the backend yet. Not a child, here and below: it
        // isn't to be cancelled.
        _ = await Task { await callsReturn(within: closeLimit) }.value
        await backend.close()
        // The backend gave all back; the last handlers may still be running. The limit only shows with a backend or a
        // handler that breaks its promise: it costs that time, not a detach that hangs.
        _ = await Task { await waitUntilIdle(for: closeLimit) }.value
        lane?.retire()
        endClosing()
    }

    /// Resets the port; URBs meanwhile end with `busy`, those in flight with `shutdown`. A device that was draining
    /// still is afterwards.
    /// - Throws: `gone` where the device isn't there any more, or closed; it counts as unplugged then. `busy` while
    ///   another reset goes on. Else as `USBBackend.reset`.
    package func reset() async throws(USBError) {
        try beginReset()
        endHeld(on: .max, with: .shutdown)
        do {
            try await backend.reset()
            storageWatch?.deviceWasReset()
            keyboard?.reset()
            endReset()
        } catch {
            if error.code == .gone { disconnect() }
            endReset()
            throw error
        }
    }

    /// Waits until nothing is in flight, at most for `limit`; returns how many still are. A cancelled task doesn't
    /// wait.
    package func waitUntilIdle(for limit: Duration) async -> Int {
        await wait(within: limit) { await self.idle() }
        return inFlight
    }
}

extension VirtualDevice {
    /// Returns when `body` does, which a cancel ends, or at the limit.
    private func wait(within limit: Duration, for body: @escaping @Sendable () async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await body() }
            group.addTask {
                // A cancelled sleep only means that the other child was first.
                try? await Task.sleep(for: limit)
            }
            await group.next()
            group.cancelAll()
        }
    }

    private func idle() async {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isIdle = state.withLock { state in
                    guard state.table.count > 0, !Task.isCancelled else { return true }
                    state.idleWaiters[id] = continuation
                    return false
                }
                if isIdle { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.idleWaiters.removeValue(forKey: id) }?.resume()
        }
    }

    /// Waits for the calls to the backend that are running. They don't block, so neither does this for long; but a
    /// device may hold the thread of one inside the kernel, and then its backend is closed all the same.
    private func callsReturn(within limit: Duration) async {
        await wait(within: limit) {
            await withTaskCancellationHandler {
                await self.allCallsReturned()
            } onCancel: {
                self.state.withLock { $0.callsWaiter.take() }?.resume()
            }
        }
    }

    private func allCallsReturned() async {
        await withCheckedContinuation { continuation in
            let isQuiet = state.withLock { state in
                guard state.callsBelow > 0, !Task.isCancelled else { return true }
                state.callsWaiter = continuation
                return false
            }
            if isQuiet { continuation.resume() }
        }
    }

    /// True for the one who is to close; all others return from here when that is done.
    private func beginClosing() async -> Bool {
        let isFirst = state.withLock { state in
            guard case .open = state.closure else { return false }
            state.closure = .closing([])
            return true
        }
        guard !isFirst else { return true }
        await withCheckedContinuation { continuation in
            let isClosed = state.withLock { state in
                guard case .closing(let waiters) = state.closure else { return true }
                state.closure = .closing(waiters + [continuation])
                return false
            }
            if isClosed { continuation.resume() }
        }
        return false
    }

    private func endClosing() {
        let waiters: [CheckedContinuation<Void, Never>] = state.withLock { state in
            guard case .closing(let waiters) = state.closure else { return [] }
            state.closure = .closed
            return waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    private func beginReset() throws(USBError) {
        let problem: USBError? = state.withLock { state in
            if case .closed = state.admission { return USBError(.gone, "the device isn't there any more") }
            guard !state.isResetting else { return USBError(.busy, "the device is being reset already") }
            state.isResetting = true
            state.callsBelow += 1
            return nil
        }
        if let problem { throw problem }
    }

    private func endReset() {
        state.withLock { $0.isResetting = false }
        callsReturned(1)
    }
}
