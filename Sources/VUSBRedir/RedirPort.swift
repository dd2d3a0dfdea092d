// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// A device that waits at its socket for a guest's side, and is served to the first that connects.
///
/// Concurrency model: the loop's thread accepts; the control plane waits, quiets and closes; news come from any thread.
/// All state is in one `Mutex`, held across no call out. Lock order: this one, then `RedirSession`'s.
package final class RedirPort: RedirPolled {
    private struct State {
        /// The socket is there to be connected to.
        var isListening = true
        /// Taken out and closed by the loop's thread, which alone accepts.
        var listener: Int32?
        var key: UInt64?
        var session: RedirSession?
        var isQuiet = false
        var isClosed = false
        var news: RedirEvent.Kind?
        var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
        var lastWaiter = 0

        var isEndKnown: Bool {
            switch news {
            case .closed, .rejected: true
            case .connected, nil: false
            }
        }

        var reason: String? {
            switch news {
            case .rejected(let reason): reason
            case .closed(let violation): violation
            case .connected, nil: nil
            }
        }
    }

    /// Of the socket; gone once somebody has connected.
    package let socketPath: String
    private let device: VirtualDevice
    private let loop: RedirLoop
    private let version: String
    private let tell: @Sendable (RedirEvent.Kind) -> Void
    private let state: Mutex<State>

    /// - Parameter owner: the user who may connect.
    /// - Throws: `invalid` where the path is too long, `io`.
    init(
        at path: String, owner: UInt32, device: VirtualDevice, loop: RedirLoop, version: String,
        tell: @escaping @Sendable (RedirEvent.Kind) -> Void
    ) throws(USBError) {
        socketPath = path
        self.device = device
        self.loop = loop
        self.version = version
        self.tell = tell
        state = Mutex(State(listener: try RedirSocket.listen(at: path, owner: owner)))
    }

    deinit {
        if let listener = state.withLock({ $0.listener }) { close(listener) }
    }

    /// - Throws: `io` where the loop can't watch it.
    func begin() throws(USBError) {
        guard let listener = state.withLock({ $0.listener }), let key = loop.add(listener, self) else {
            forgetSocket()
            throw USBError(.io, "the socket \(socketPath) can't be watched", remedy: "look for memory and open files")
        }
        // Somebody may have connected since.
        let isListening = state.withLock { state in
            if state.listener != nil { state.key = key }
            return state.listener != nil
        }
        if !isListening { loop.forget(key) }
    }

    package var status: RedirStatus {
        let (session, isClosed, isEndKnown, reason) = state.withLock { state in
            (state.session, state.isClosed, state.isEndKnown, state.reason)
        }
        guard var status = session?.status else { return RedirStatus(state: isClosed ? .closed : .waiting) }
        status.reason = reason
        // Not before it is to be told of: who sees it ends the port, and then nothing is told any more.
        if status.state == .closed, !isClosed, !isEndKnown { status.state = .greeting }
        return status
    }

    /// Nothing comes of it any more: it was ended here, or by the guest's side.
    package var isOver: Bool { state.withLock { $0.isClosed } || status.state == .closed }

    // MARK: - The loop's thread

    func turn() {
        guard !state.withLock({ $0.isClosed }) else { return closeListener() }
        guard let listener = state.withLock({ $0.listener }), let descriptor = RedirSocket.accept(listener) else {
            return
        }
        // The device has one guest: whoever comes later finds no socket.
        closeListener()
        let session = RedirSession(descriptor, device: device, loop: loop) { [weak self] kind in self?.note(kind) }
        let isWanted = state.withLock { state in
            if !state.isClosed { state.session = session }
            return !state.isClosed
        }
        guard isWanted else { return session.end(violation: nil) }
        if state.withLock({ $0.isQuiet }) { session.quiet() }
        session.begin(version: version)
        wakeWaiters()
    }

    private func closeListener() {
        forgetSocket()
        let (listener, key) = state.withLock { state in
            defer { (state.listener, state.key) = (nil, nil) }
            return (state.listener, state.key)
        }
        guard let listener else { return }
        if let key { loop.remove(listener, key: key) }
        close(listener)
    }

    /// Its name may be another port's from now on.
    private func forgetSocket() {
        let wasListening = state.withLock { state in
            defer { state.isListening = false }
            return state.isListening
        }
        // Gone already is what is wanted.
        if wasListening { _ = unsafe unlink(socketPath) }
    }

    private func note(_ kind: RedirEvent.Kind) {
        let isToBeTold = state.withLock { state in
            state.news = kind
            return !state.isClosed
        }
        wakeWaiters()
        if isToBeTold { tell(kind) }
    }

    private func wakeWaiters() {
        let waiters = state.withLock { state in
            defer { state.waiters = [:] }
            return state.waiters.values
        }
        for waiter in waiters { waiter.resume() }
    }

    // MARK: - The control plane

    /// Waits for the guest's side to say hello, or to go; returns how it is then, or at the limit.
    package func waitForHello(within limit: Duration) async -> RedirStatus {
        let deadline = ContinuousClock.now + limit
        while [.waiting, .greeting].contains(status.state), ContinuousClock.now < deadline, !Task.isCancelled {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.change() }
                group.addTask {
                    // A cancelled sleep only means that the other child was first.
                    try? await Task.sleep(until: deadline)
                }
                await group.next()
                group.cancelAll()
            }
        }
        return status
    }

    private func change() async {
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    // What has changed before is looked at by the caller, again.
                    if Task.isCancelled || state.news != nil { return true }
                    state.waiters[id] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
        }
    }

    /// New requests of the guest wait from now on; those in flight go on, streams pause.
    package func quiet() {
        state.withLock { state in
            state.isQuiet = true
            return state.session
        }?.quiet()
    }

    /// Undoes `quiet`.
    package func resume() {
        state.withLock { state in
            state.isQuiet = false
            return state.session
        }?.resume()
    }

    /// Ends it: the guest's side is told that the device has gone, where it's still there. Nothing is told of it any
    /// more.
    package func end() {
        let session = state.withLock { state in
            state.isClosed = true
            return state.session
        }
        forgetSocket()
        // Its thread closes the listener.
        loop.poke(self)
        session?.give(.disconnect)
        wakeWaiters()
    }
}

extension RedirSession {
    func quiet() {
        let tokens = state.withLock { $0.park() }
        for token in tokens { device.cancel(token) }
    }

    func resume() {
        state.withLock { $0.unpark() }
        poke()
    }
}
