// SPDX-License-Identifier: Apache-2.0

internal import DequeModule
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// One connection of a guest's side, from accept to close: the device as the usbredir protocol shows it. The cases are
/// those of Redirect.md. One that is closed lives on until its last URB has ended, whose completion goes nowhere.
///
/// Concurrency model: the loop's thread reads, by `reader`, and carries out what was read; the source's threads
/// complete URBs and send their answers; the control plane quiets and closes. All state is in one `Mutex`, held across
/// no call out. One thread at a time sends: who finds somebody sending leaves it to them (`State.beginWriting`). What
/// is being sent isn't freed but by that thread. Lock order: `RedirPort`'s, then this one; a leaf else.
@safe
final class RedirSession: URBHandler, RedirPolled, @unchecked Sendable {
    enum Phase: Equatable {
        /// The peer hasn't said hello.
        case greeting
        case open
        case closed
    }

    /// What only the loop's thread may do, since it has the parser.
    enum Job: Sendable {
        case configured(id: UInt64, URBStatus)
        case interfaceSet(id: UInt64, interface: UInt8, alternate: UInt8, URBStatus)
        case resetEnded
        case streamEnded(RedirStreamWish)
        case disconnect
    }

    /// What is being sent.
    enum Writing: Equatable {
        case idle
        /// A thread is at it. `again`: another one has left it more.
        case busy(again: Bool)
        /// The kernel took no more.
        case blocked
    }

    struct State: ~Copyable {
        var phase = Phase.greeting
        var form = RedirForm()
        var peer: String?
        var slots = RedirSlots()
        /// Where the transfers are that the peer waits for, by its ids.
        var ids: [UInt64: RedirPlace] = [:]
        var order = RedirOrder()
        /// By the endpoint's index.
        var streams: [RedirStream?] = Array(repeating: nil, count: 32)
        var lastGeneration = 0
        var outbox = RedirOutbox()
        var writing = Writing.idle
        /// More than `outboxHigh` waited: streams pause, nothing is read.
        var isFull = false
        /// Changes of settings and resets under way: what was sent behind them waits.
        var changes = 0
        /// The control plane wants no new transfers.
        var isQuiet = false
        /// When a transfer was last begun or ended.
        var lastTransfer: ContinuousClock.Instant?
        var jobs: [Job] = []
        var key: UInt64?
    }

    let device: VirtualDevice
    let state = Mutex(State())
    let reader = RedirReader()
    private let descriptor: Int32
    private let loop: RedirLoop
    private let tell: @Sendable (RedirEvent.Kind) -> Void
    // SAFETY: used by the one thread that sends; freed in deinit.
    private let vectors: UnsafeMutablePointer<iovec>

    /// Takes the descriptor over.
    /// - Parameter tell: told what happens, on whatever thread, with no lock held but the port's.
    init(
        _ descriptor: Int32, device: VirtualDevice, loop: RedirLoop,
        tell: @escaping @Sendable (RedirEvent.Kind) -> Void
    ) {
        self.descriptor = descriptor
        self.device = device
        self.loop = loop
        self.tell = tell
        unsafe vectors = .allocate(capacity: RedirLimits.vectors)
    }

    deinit {
        dropAll()
        unsafe vectors.deallocate()
        // Only now: a thread that had the number in hand could have met another file.
        Glibc.close(descriptor)
    }

    /// On the loop's thread: says hello, and is watched from now on.
    func begin(version: String) {
        guard reader.begin(self, version: version) else { return end(violation: "no memory for a connection") }
        let key = loop.add(descriptor, self)
        guard let key else { return end(violation: "no memory for a connection") }
        state.withLock { $0.key = key }
    }

    var status: RedirStatus {
        state.withLock { state in
            let shown: RedirStatus.State =
                switch state.phase {
                case .greeting: .greeting
                case .open: .connected
                case .closed: .closed
                }
            let streams = state.streams.count { $0.map { $0.wish.kind != .interrupt } ?? false }
            return RedirStatus(
                state: shown, peer: state.peer, bytesWaiting: state.outbox.byteCount, streams: streams,
                idle: state.lastTransfer.map { .now - $0 })
        }
    }

    // MARK: - The loop's thread

    func turn() {
        for job in state.withLock({ $0.takeJobs() }) { carryOut(job) }
        state.withLock { $0.unblock() }
        flush()
        reader.readAll()
        for index in state.withLock({ $0.streamIndices }) { pump(index) }
        flush()
    }

    func receive(into buffer: UnsafeMutableRawBufferPointer) -> RedirSocket.Outcome {
        unsafe RedirSocket.receive(descriptor, into: buffer)
    }

    /// Whether the next message of the peer is to wait.
    var isHeld: Bool { state.withLock { $0.changes > 0 || $0.isQuiet || $0.isFull } }
    var isClosed: Bool { state.withLock { $0.phase == .closed } }

    /// Has the loop's thread look for jobs and bytes.
    func poke() { loop.poke(self) }

    func give(_ job: Job) {
        state.withLock { $0.jobs.append(job) }
        poke()
    }

    /// The peer has said hello.
    func opened(peer: String, _ form: RedirForm) {
        state.withLock { state in
            state.phase = .open
            state.peer = peer
            state.form = form
        }
        tell(.connected(peer: peer))
    }

    // MARK: - Ends

    /// Nothing is admitted any more: URBs in flight are cancelled, what waits to be sent is dropped.
    /// - Parameter violation: the rule that the peer broke; nil where it just went, or is sent away.
    func end(violation: String?) { finish(.closed(violation: violation)) }

    /// The guest's side won't have the device.
    func rejected(_ reason: String) { finish(.rejected(reason: reason)) }

    private func finish(_ news: RedirEvent.Kind) {
        let (tokens, key, isFirst) = state.withLock { state -> ([URBToken], UInt64?, Bool) in
            guard state.phase != .closed else { return ([], nil, false) }
            state.phase = .closed
            defer { state.key = nil }
            return (state.endAll(), state.key, true)
        }
        guard isFirst else { return }
        // The peer sees the end now; the descriptor itself stays until nobody can use it.
        shutdown(descriptor, Int32(SHUT_RDWR))
        if let key { loop.remove(descriptor, key: key) }
        for token in tokens { device.cancel(token) }
        dropUnsent()
        flush()
        tell(news)
    }
}

extension RedirSession.State {
    mutating func takeJobs() -> [RedirSession.Job] {
        defer { jobs.removeAll(keepingCapacity: true) }
        return jobs
    }

    /// The streams that there are.
    var streamIndices: [Int] { streams.indices.filter { streams[$0] != nil } }

    fileprivate mutating func endAll() -> [URBToken] {
        ids = [:]
        endOrder()
        for index in streams.indices { streams[index] = nil }
        jobs = []
        return (0..<RedirLimits.urbs).compactMap { slots.cancel($0) }
    }
}

// MARK: - Sending

extension RedirSession {
    /// A message of the parser.
    func append(_ bytes: consuming RedirBytes) {
        var bytes: RedirBytes? = consume bytes
        state.withLock { state in
            if let bytes = bytes.take() { state.append(bytes) }
        }
    }

    /// Sends what waits, unless somebody does so already or the kernel takes no more.
    func flush() {
        guard state.withLock({ $0.beginWriting() }) else { return }
        while true {
            let count = state.withLock { state in unsafe state.gather(vectors) }
            guard count > 0 else {
                if state.withLock({ $0.phase == .closed }) { dropAll() }
                if state.withLock({ $0.endWriting(.idle) }) { return }
                continue
            }
            switch unsafe RedirSocket.send(descriptor, vectors, count: count) {
            case .moved(let count): drop(sent: count)
            case .blocked: if state.withLock({ $0.endWriting(.blocked) }) { return }
            case .ended, .failed:
                // Nobody hears it. The reader, which mustn't be held up by it, finds the end, after what the peer said
                // before.
                dropAll()
                if state.withLock({ $0.hasDrained() }) { poke() }
                if state.withLock({ $0.endWriting(.blocked) }) { return }
            }
        }
    }

    /// Gives back the memory of what was sent, outside of the lock.
    private func drop(sent count: Int) {
        state.withLock { $0.outbox.sent(count) }
        while take({ state in state.takeSent() }) {}
        if state.withLock({ $0.hasDrained() }) { poke() }
    }

    private func dropAll() {
        while take({ state in state.takeFirst() }) {}
    }

    private func take(_ body: (inout State) -> RedirSent?) -> Bool {
        let sent = state.withLock { state in body(&state) }
        return switch consume sent {
        case .some: true
        case .none: false
        }
    }
}

extension RedirSession.State {
    /// The kernel may take more.
    fileprivate mutating func unblock() {
        if writing == .blocked { writing = .idle }
    }

    fileprivate mutating func beginWriting() -> Bool {
        switch writing {
        case .busy:
            writing = .busy(again: true)
            return false
        case .blocked where phase != .closed: return false
        case .idle, .blocked:
            guard !outbox.entries.isEmpty else { return false }
            writing = .busy(again: false)
            return true
        }
    }

    /// - Returns: false where there is more to do.
    fileprivate mutating func endWriting(_ next: RedirSession.Writing) -> Bool {
        guard writing != .busy(again: true) else {
            writing = .busy(again: false)
            return false
        }
        writing = next
        return true
    }

    /// Queues a message. One for a connection that is closed is dropped with the rest.
    mutating func append(_ bytes: consuming RedirBytes) {
        let count = bytes.count
        unsafe outbox.append(.bytes(bytes.release(), count: count), byteCount: count)
        noteFullness()
    }

    private mutating func noteFullness() {
        if outbox.byteCount > RedirLimits.outboxHigh { isFull = true }
    }

    /// Queues a slot that is finished. From here on the peer may use its id again.
    mutating func send(_ slot: Int) {
        slots[slot].phase = .finished
        if case .transfer(let transfer) = slots[slot].purpose, ids[transfer.id] == .slot(slot) {
            ids[transfer.id] = nil
        }
        outbox.append(.slot(slot), byteCount: slots[slot].byteCount)
        noteFullness()
    }

    fileprivate mutating func hasDrained() -> Bool {
        guard isFull, outbox.byteCount < RedirLimits.outboxLow else { return false }
        isFull = false
        return true
    }

    /// - Returns: how many vectors are to be sent; 0 for none, and once it's closed.
    @unsafe
    fileprivate func gather(_ vectors: UnsafeMutablePointer<iovec>) -> Int {
        guard phase != .closed else { return 0 }
        var filler = unsafe RedirVectors(vectors, skip: outbox.sentOfFirst)
        for entry in outbox.entries {
            if filler.isFull { break }
            switch entry {
            case .bytes(let start, let count): unsafe filler.add(start, count)
            case .slot(let slot): unsafe add(slot, to: &filler)
            }
        }
        return filler.count
    }

    @unsafe
    private func add(_ slot: Int, to filler: inout RedirVectors) {
        guard slots[slot].headerCount == 0 else {
            unsafe filler.add(slots.header(of: slot), slots[slot].headerCount)
            guard slots[slot].dataCount > 0, let data = unsafe slots[slot].data else { return }
            return unsafe filler.add(data, slots[slot].dataCount)
        }
        // Isochronous: header, data, header, data.
        guard let headers = unsafe slots[slot].headerBytes, let data = unsafe slots[slot].data else { return }
        let length = RedirHeader.isochronousLength(form)
        for index in 0..<slots[slot].packetCount {
            guard let packet = slots[slot].packet(at: index) else { return }
            unsafe filler.add(headers + index * length, length)
            let count = Int(min(packet.actualLength, packet.length))
            if count > 0 { unsafe filler.add(data + Int(packet.offset), count) }
        }
    }

    private func byteCount(of entry: RedirOutbox.Entry) -> Int {
        switch entry {
        case .bytes(_, let count): count
        case .slot(let slot): slots[slot].byteCount
        }
    }

    fileprivate mutating func takeSent() -> RedirSent? {
        guard let first = outbox.entries.first, outbox.sentOfFirst >= byteCount(of: first) else { return nil }
        return takeFirst()
    }

    /// Takes the first entry out, whether it was sent or not.
    mutating func takeFirst() -> RedirSent? {
        guard let first = outbox.entries.first else { return nil }
        let count = byteCount(of: first)
        guard let entry = outbox.removeFirst(byteCount: count) else { return nil }
        switch entry {
        case .bytes(let start, let count):
            return RedirSent(urb: nil, headers: nil, bytes: unsafe RedirBytes(owning: start, count: count))
        case .slot(let slot):
            let sent = RedirSent(urb: slots[slot].urb.take(), headers: slots[slot].headers.take(), bytes: nil)
            slots.release(slot)
            return sent
        }
    }
}
