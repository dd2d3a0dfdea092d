// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import Synchronization
internal import VUSBCore
internal import VUSBSystem

/// One thread that accepts for all listeners: NIO's own doesn't tell the context id of a vsock peer.
///
/// Concurrency model: any thread adds and removes; listeners are in one `Mutex`, a leaf, held across no call out. The
/// thread alone accepts at a listener, and closes it.
final class USBIPAcceptor: Sendable {
    private struct State {
        var listeners: [USBIPListener] = []
        var removed: [(listener: USBIPListener, waiter: CheckedContinuation<Void, Never>)] = []
        var isStopped = false
        var hasEnded = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    /// Accepted at once before other listeners have their turn.
    private static let turn = 16
    /// How long nothing is accepted when no descriptor is left.
    private static let pauseMilliseconds: Int32 = 100

    private let state = Mutex(State())
    private let wakeUp: Int32
    /// Takes a peer's descriptor over; may wait for the loop.
    private let accepted: @Sendable (Int32, USBIPListener) -> Void

    /// - Throws: `io` where no descriptor or thread is left.
    init(accepted: @escaping @Sendable (Int32, USBIPListener) -> Void) throws(USBError) {
        self.accepted = accepted
        wakeUp = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard wakeUp >= 0 else { throw Self.failure(errno) }
        let code = DetachedThread.start(name: "vusb-usbip-acc") { [self] in run() }
        guard code == 0 else { throw Self.failure(code) }
    }

    // Only now: who wakes a thread that has ended could have met another file with the number.
    deinit {
        if wakeUp >= 0 { close(wakeUp) }
    }

    private static func failure(_ code: Int32) -> USBError {
        // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
        USBError(
            .io, "mode usbip can't begin: \(unsafe String(cString: strerror(code)))",
            remedy: "raise the limits of open files and tasks (LimitNOFILE=, TasksMax=)")
    }

    func add(_ listener: USBIPListener) {
        state.withLock { $0.listeners.append(listener) }
        wake()
    }

    /// Returns when the socket is closed.
    func remove(_ listener: USBIPListener) async {
        await withCheckedContinuation { waiter in
            let isThere = state.withLock { state in
                let isThere = state.listeners.contains { $0 === listener }
                state.listeners.removeAll { $0 === listener }
                if isThere { state.removed.append((listener, waiter)) }
                return isThere
            }
            if isThere { wake() } else { waiter.resume() }
        }
    }

    /// Returns when the thread has ended and all sockets are closed.
    func stop() async {
        state.withLock { $0.isStopped = true }
        wake()
        await withCheckedContinuation { waiter in
            let hasEnded = state.withLock { state in
                if !state.hasEnded { state.waiters.append(waiter) }
                return state.hasEnded
            }
            if hasEnded { waiter.resume() }
        }
    }

    private func wake() {
        var one: UInt64 = 1
        // Full only when it's already awake.
        _ = unsafe write(wakeUp, &one, MemoryLayout<UInt64>.size)
    }

    // MARK: - The thread

    private func run() {
        var isPausing = false
        while true {
            let (listeners, removed, isStopped) = takeState()
            for (listener, waiter) in removed {
                listener.close()
                waiter.resume()
            }
            if isStopped { return finish(listeners) }
            let ready = wait(for: isPausing ? [] : listeners, isPausing ? Self.pauseMilliseconds : -1)
            isPausing = false
            for listener in ready where !accept(listener) { isPausing = true }
        }
    }

    private func takeState() -> (
        [USBIPListener], [(listener: USBIPListener, waiter: CheckedContinuation<Void, Never>)], Bool
    ) {
        state.withLock { state in
            defer { state.removed = [] }
            return (state.listeners, state.removed, state.isStopped)
        }
    }

    private func finish(_ listeners: [USBIPListener]) {
        for listener in listeners { listener.close() }
        let waiters = state.withLock { state in
            state.hasEnded = true
            state.listeners = []
            defer { (state.waiters, state.removed) = ([], []) }
            return state.waiters + state.removed.map(\.waiter)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// - Returns: those at which somebody waits.
    private func wait(for listeners: [USBIPListener], _ milliseconds: Int32) -> [USBIPListener] {
        var entries = [pollfd(fd: wakeUp, events: Int16(POLLIN), revents: 0)]
        entries += listeners.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        guard unsafe poll(&entries, nfds_t(entries.count), milliseconds) > 0 else { return [] }
        var value: UInt64 = 0
        // Non-blocking: nothing there is fine.
        if entries[0].revents != 0 { _ = unsafe read(wakeUp, &value, MemoryLayout<UInt64>.size) }
        return listeners.indices.filter { entries[$0 + 1].revents != 0 }.map { listeners[$0] }
    }

    /// - Returns: false where no descriptor is left.
    private func accept(_ listener: USBIPListener) -> Bool {
        for _ in 0..<Self.turn {
            switch USBIPSocket.accept(listener.descriptor) {
            case .peer(let descriptor): accepted(descriptor, listener)
            case .none: return true
            case .exhausted: return false
            }
        }
        return true
    }
}
