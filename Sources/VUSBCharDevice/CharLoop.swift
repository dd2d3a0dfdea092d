// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import Synchronization
internal import VUSBCore
internal import VUSBSystem

/// What the loop serves.
protocol CharServed: AnyObject, Sendable {
    var channel: CuseChannel? { get }
    /// The kernel has ended the connection. On a thread of the loop.
    func lost()
}

/// A few threads for all character devices, and their clock.
///
/// Concurrency model: any thread adds, removes and wakes; what is served is in one `Mutex`, a leaf, held across no call
/// out. A thread keeps what it serves alive during a request, so one that was removed may be served once more.
final class CharLoop: UsbfsClock {
    fileprivate struct Timer {
        let session: UsbfsSession
        var deadline: ContinuousClock.Instant
    }

    fileprivate struct State {
        var lastKey: UInt64 = 0
        var served: [UInt64: any CharServed] = [:]
        /// By session's number, of which nodes have their own: so by object.
        var timers: [ObjectIdentifier: Timer] = [:]
        var running = 0
        var isStopped = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())
    private let epoll: Int32
    private let wakeUp: Int32

    /// - Throws: `io` where no descriptor or thread is left.
    init(threads: Int) throws(USBError) {
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        wakeUp = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        guard epoll >= 0, wakeUp >= 0, watch(wakeUp, key: 0) else { throw Self.failure(errno) }
        for number in 0..<max(1, threads) {
            state.withLock { $0.running += 1 }
            let code = DetachedThread.start(name: "vusb-char-\(number)") { [self] in run() }
            guard code != 0 else { continue }
            state.withLock { $0.running -= 1 }
            // Those that run are enough.
            guard number == 0 else { break }
            throw Self.failure(code)
        }
    }

    deinit {
        if epoll >= 0 { close(epoll) }
        if wakeUp >= 0 { close(wakeUp) }
    }

    private static func failure(_ code: Int32) -> USBError {
        // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
        USBError(
            .io, "character devices can't be served: \(unsafe String(cString: strerror(code)))",
            remedy: "raise the limits of open files and tasks (LimitNOFILE=, TasksMax=)")
    }

    /// - Returns: what `remove` takes; nil where the kernel has no memory for it, or the loop has been stopped.
    func add(_ served: any CharServed) -> UInt64? {
        guard let channel = served.channel else { return nil }
        let key = state.withLock { state -> UInt64? in
            guard !state.isStopped else { return nil }
            state.lastKey += 1
            state.served[state.lastKey] = served
            return state.lastKey
        }
        guard let key, watch(channel.descriptor, key: key) else {
            if let key { state.withLock { $0.served[key] = nil } }
            return nil
        }
        return key
    }

    /// To be called before the descriptor is closed.
    func remove(_ descriptor: Int32, key: UInt64) {
        // One that isn't watched is what is wanted.
        epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, nil)
        state.withLock { $0.served[key] = nil }
    }

    func wake(_ session: UsbfsSession, at deadline: ContinuousClock.Instant) {
        let isFirst = state.withLock { state in
            guard !state.isStopped else { return false }
            let earliest = state.earliest
            if let timer = state.timers[ObjectIdentifier(session)], timer.deadline <= deadline { return false }
            state.timers[ObjectIdentifier(session)] = Timer(session: session, deadline: deadline)
            return earliest.map { deadline < $0 } ?? true
        }
        // A thread of the loop looks anyway before it waits; another one sleeps until then.
        if isFirst { wake() }
    }

    /// Returns when the threads have ended.
    func stop() async {
        state.withLock { $0.isStopped = true }
        wake()
        await withCheckedContinuation { continuation in
            let hasEnded = state.withLock { state in
                if state.running > 0 { state.waiters.append(continuation) }
                return state.running == 0
            }
            if hasEnded { continuation.resume() }
        }
    }

    private func watch(_ descriptor: Int32, key: UInt64) -> Bool {
        var event = unsafe epoll_event()
        unsafe event.events = EPOLLIN.rawValue
        unsafe event.data.u64 = key
        return unsafe epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0
    }

    private func wake() {
        var one: UInt64 = 1
        // Full only when it's already awake.
        _ = unsafe write(wakeUp, &one, MemoryLayout<UInt64>.size)
    }

    // MARK: - The threads

    private func run() {
        RealTime.enter()
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: CuseChannel.requestSize, alignment: BufferPool.pageSize)
        var events = unsafe Array(repeating: epoll_event(), count: 16)
        while !state.withLock({ $0.isStopped }) {
            let count = unsafe epoll_wait(epoll, &events, 16, checkTimers())
            for index in 0..<Int(max(count, 0)) {
                let key = unsafe events[index].data.u64
                if key == 0 { drainWakeUp() } else { unsafe serve(key, memory) }
            }
        }
        unsafe memory.deallocate()
        let waiters = state.withLock { state in
            state.running -= 1
            guard state.running == 0 else { return [CheckedContinuation<Void, Never>]() }
            state.served = [:]
            state.timers = [:]
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
        // The next one ends, too.
        wake()
    }

    /// One request of it. Most callers have but one at a time, so that a second look would find nothing; where there are
    /// more, it's ready again at once, and others have their turn before.
    @unsafe
    private func serve(_ key: UInt64, _ memory: UnsafeMutableRawPointer) {
        guard let served = state.withLock({ $0.served[key] }), let channel = served.channel,
            unsafe channel.serve(memory) == .over
        else { return }
        remove(channel.descriptor, key: key)
        served.lost()
    }

    /// Has those look whose time has come.
    /// - Returns: milliseconds until the next; -1 for none.
    private func checkTimers() -> Int32 {
        guard let earliest = state.withLock({ $0.earliest }) else { return -1 }
        let now = ContinuousClock.now
        guard earliest <= now else { return Self.milliseconds(earliest - now) }
        let due = state.withLock { state in
            let due = state.timers.values.filter { $0.deadline <= now }.map(\.session)
            for session in due { state.timers[ObjectIdentifier(session)] = nil }
            return due
        }
        for session in due {
            if let next = session.checkTime(now) { wake(session, at: next) }
        }
        guard let next = state.withLock({ $0.earliest }) else { return -1 }
        return Self.milliseconds(next - ContinuousClock.now)
    }

    /// Rounded up, so that it's over then.
    private static func milliseconds(_ duration: Duration) -> Int32 {
        let (seconds, attoseconds) = duration.components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        return Int32(clamping: seconds * 1000 + attoseconds / 1_000_000_000_000_000 + 1)
    }

    private func drainWakeUp() {
        guard !state.withLock({ $0.isStopped }) else { return }
        var value: UInt64 = 0
        // Non-blocking: nothing there is fine.
        _ = unsafe read(wakeUp, &value, MemoryLayout<UInt64>.size)
    }
}

extension CharLoop.State {
    fileprivate var earliest: ContinuousClock.Instant? { timers.values.map(\.deadline).min() }
}
