// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// A device that a guest holds, and the lease that one connection has of it.
///
/// Concurrency model: the loop's thread takes and returns the lease; the control plane quiets, readmits and ends. All
/// state is in one `Mutex`, held across no call out. Lock order: this one is a leaf.
package final class USBIPExport: USBIPExported {
    enum Lease {
        case free
        case held(USBIPConnection)
        case resting
    }

    enum Taken {
        case taken(isQuiet: Bool)
        case busy
        case gone
    }

    private struct State {
        var lease = Lease.free
        var isQuiet = false
        var isWithdrawn = false
        /// Those who wait for the session to be over.
        var waiters: [CheckedContinuation<Void, Never>] = []

        var holder: USBIPConnection? {
            guard case .held(let connection) = lease else { return nil }
            return connection
        }
    }

    package let place: USBIPPlace
    let device: VirtualDevice
    private let tell: @Sendable (USBIPEvent) -> Void
    private let forget: @Sendable (USBIPExport) -> Void
    private let state = Mutex(State())

    /// - Parameters:
    ///   - tell: told what happens, on the loop's thread.
    ///   - forget: it's not to be found any more.
    init(
        _ device: VirtualDevice, at place: USBIPPlace, tell: @escaping @Sendable (USBIPEvent) -> Void,
        forget: @escaping @Sendable (USBIPExport) -> Void
    ) {
        self.device = device
        self.place = place
        self.tell = tell
        self.forget = forget
    }

    // MARK: - The loop's thread

    /// The lease is the connection's until `returned`.
    func take(_ connection: USBIPConnection) -> Taken {
        state.withLock { state in
            guard !state.isWithdrawn else { return .gone }
            guard case .free = state.lease else { return .busy }
            state.lease = .held(connection)
            return .taken(isQuiet: state.isQuiet)
        }
    }

    func imported(peer: String) { tell(.imported(place, peer: peer)) }

    /// The session is over.
    func returned(peer: String, _ end: USBIPEnd, unfinished: Int) {
        let (waiters, isToBeTold) = state.withLock { state in
            state.lease = .resting
            defer { state.waiters = [] }
            return (state.waiters, !state.isWithdrawn)
        }
        if isToBeTold { tell(.ended(place, peer: peer, end, unfinished: unfinished)) }
        for waiter in waiters { waiter.resume() }
    }

    // MARK: - The control plane

    package var status: USBIPStatus {
        let (holder, isResting, isWithdrawn) = state.withLock { state -> (USBIPConnection?, Bool, Bool) in
            switch state.lease {
            case .free: (nil, false, state.isWithdrawn)
            case .held(let connection): (connection, false, state.isWithdrawn)
            case .resting: (nil, true, state.isWithdrawn)
            }
        }
        guard let holder else { return USBIPStatus(state: isWithdrawn ? .withdrawn : isResting ? .resting : .free) }
        return holder.status
    }

    package func quiet() { setQuiet(true) }
    package func resume() { setQuiet(false) }

    private func setQuiet(_ isQuiet: Bool) {
        let holder = state.withLock { state in
            state.isQuiet = isQuiet
            return state.holder
        }
        holder?.setQuiet(isQuiet)
    }

    package func readmit() {
        state.withLock { if case .resting = $0.lease { $0.lease = .free } }
    }

    package func end() async {
        let holder = state.withLock { state in
            state.isWithdrawn = true
            return state.holder
        }
        forget(self)
        guard let holder else { return }
        holder.withdraw()
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                guard state.holder != nil else { return true }
                state.waiters.append(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
    }
}
