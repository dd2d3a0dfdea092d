// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import Synchronization
internal import VUSBCore
internal import VUSBSystem

/// What the loop watches: a listener or a connection.
protocol RedirPolled: AnyObject, Sendable {
    /// On the loop's thread: something may have changed, at the descriptor or in here. Edges only: all is to be done.
    func turn()
}

/// One thread for all sockets of the front.
///
/// Concurrency model: any thread adds, removes and pokes; what is watched is in one `Mutex`, a leaf, held across no
/// call out but epoll_ctl(2), which doesn't wait. The thread keeps what it calls alive during the call, so one that was
/// removed may be called once more.
final class RedirLoop: Sendable {
    private struct State {
        var lastKey: UInt64 = 0
        var watched: [UInt64: any RedirPolled] = [:]
        var poked: [any RedirPolled] = []
        var isStopped = false
        var waiters: [CheckedContinuation<Void, Never>] = []
        var hasEnded = false
    }

    private let state = Mutex(State())
    private let epoll: Int32
    private let wakeUp: Int32

    /// - Throws: `io` where no descriptor or thread is left.
    init() throws(USBError) {
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        wakeUp = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard epoll >= 0, wakeUp >= 0, watch(wakeUp, key: 0, EPOLLIN.rawValue) else {
            throw Self.failure(errno)
        }
        let code = DetachedThread.start(name: "vusb-redirect") { [self] in run() }
        guard code == 0 else { throw Self.failure(code) }
    }

    // Only now: who pokes a loop that has ended could have met another file with the number.
    deinit {
        if epoll >= 0 { close(epoll) }
        if wakeUp >= 0 { close(wakeUp) }
    }

    private static func failure(_ code: Int32) -> USBError {
        // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
        USBError(
            .io, "mode redirect can't begin: \(unsafe String(cString: strerror(code)))",
            remedy: "raise the limits of open files and tasks (LimitNOFILE=, TasksMax=)")
    }

    /// Watches a descriptor until `remove`; `polled` is called at once.
    /// - Returns: what `remove` takes; nil where the kernel has no memory for it, or the loop has been stopped.
    func add(_ descriptor: Int32, _ polled: any RedirPolled) -> UInt64? {
        let key = state.withLock { state -> UInt64? in
            guard !state.isStopped else { return nil }
            state.lastKey += 1
            state.watched[state.lastKey] = polled
            return state.lastKey
        }
        guard let key else { return nil }
        guard watch(descriptor, key: key, EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue) else {
            state.withLock { $0.watched[key] = nil }
            return nil
        }
        poke(polled)
        return key
    }

    /// To be called before the descriptor is closed.
    func remove(_ descriptor: Int32, key: UInt64) {
        // One that isn't watched is what is wanted.
        epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, nil)
        state.withLock { $0.watched[key] = nil }
    }

    /// The same for one that has been closed meanwhile.
    func forget(_ key: UInt64) { state.withLock { $0.watched[key] = nil } }

    /// Has the thread call `turn` soon; nothing where it has ended.
    func poke(_ polled: any RedirPolled) {
        let isFirst = state.withLock { state in
            guard !state.hasEnded else { return false }
            state.poked.append(polled)
            return state.poked.count == 1
        }
        if isFirst { wake() }
    }

    /// Returns when the thread has ended.
    func stop() async {
        state.withLock { $0.isStopped = true }
        wake()
        await withCheckedContinuation { continuation in
            let hasEnded = state.withLock { state in
                if !state.hasEnded { state.waiters.append(continuation) }
                return state.hasEnded
            }
            if hasEnded { continuation.resume() }
        }
    }

    private func watch(_ descriptor: Int32, key: UInt64, _ events: UInt32) -> Bool {
        var event = unsafe epoll_event()
        unsafe event.events = events | EPOLLET.rawValue
        unsafe event.data.u64 = key
        return unsafe epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0
    }

    private func wake() {
        var one: UInt64 = 1
        // Full only when it's already awake.
        _ = unsafe write(wakeUp, &one, MemoryLayout<UInt64>.size)
    }

    // MARK: - The thread

    private func run() {
        RealTime.enter()
        var events = unsafe Array(repeating: epoll_event(), count: 32)
        while !state.withLock({ $0.isStopped }) {
            let count = unsafe epoll_wait(epoll, &events, 32, -1)
            for index in 0..<Int(max(count, 0)) {
                let key = unsafe events[index].data.u64
                if key == 0 { drainWakeUp() }
                state.withLock { $0.watched[key] }?.turn()
            }
            for polled in takePoked() { polled.turn() }
        }
        let waiters = state.withLock { state in
            state.hasEnded = true
            state.watched = [:]
            state.poked = []
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    private func takePoked() -> [any RedirPolled] {
        state.withLock { state in
            defer { state.poked.removeAll(keepingCapacity: true) }
            return state.poked
        }
    }

    private func drainWakeUp() {
        var value: UInt64 = 0
        // Non-blocking: nothing there is fine.
        _ = unsafe read(wakeUp, &value, MemoryLayout<UInt64>.size)
    }
}
