// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// A device that a peer has imported: takes the peer's commands and makes the answers. The cases are those of USBIP.md.
/// One that has ended lives on until its last URB has.
///
/// Concurrency model: the loop's thread takes commands. Answers are made and sent by whoever's turn it is: the loop, or a
/// source's thread that completes a URB while it's nobody's (T1 to T11 of USBIP.md). What both need is in `state`, a Mutex
/// that is held across no call out. Lock order: a leaf.
@safe
final class USBIPSession: URBHandler, CompletionPassHandler, @unchecked Sendable {
    struct State: ~Copyable {
        var slots = USBIPSlots()
        /// The slots of what isn't answered yet.
        var seqnums: [UInt32: Int] = [:]
        /// What those ask for.
        var bytesInFlight = 0
        var ready: [USBIPDue] = []
        var turn = USBIPTurn.nobody
        /// Nil where the loop sends all, and from its end on.
        var sender: USBIPSender?
        /// The loop has nothing of it that the socket hasn't taken: others may send.
        var isDirect = false
        /// It reads no more until it's its turn: it's to be woken then.
        var loopWaits = false
        var isEnded = false
        /// When the last transfer was answered that is use of the device.
        var lastTransfer: CoarseInstant?
    }

    let device: VirtualDevice
    let deviceID: UInt32
    /// As it's told of.
    let peer: String
    let state = Mutex(State())
    let wake: @Sendable () -> Void

    // SAFETY: from here on all is the loop's thread's.
    var memories: USBIPMemories
    var reader = USBIPFrameReader()
    var early = USBIPEarlyUnlinks()
    private var sinceAnswer = 0
    /// `answer` is at it: NIO may end the connection, or have it read, from within a write.
    private var isAnswering = false
    private var whenOver: (() -> Void)?

    // SAFETY: from here on all is the thread's whose turn it is.
    var outgoing: USBIPOutgoing
    var draining: [USBIPDue] = []
    var sending: [ByteBuffer] = []
    /// The number of the error by which the socket failed when something was sent directly.
    var failure: Int32?

    /// - Parameter wake: has the loop call `answer` soon; called on any thread.
    init(
        _ device: VirtualDevice, deviceID: UInt32, peer: String, _ allocator: ByteBufferAllocator,
        wake: @escaping @Sendable () -> Void
    ) {
        self.device = device
        self.deviceID = deviceID
        self.peer = peer
        self.wake = wake
        outgoing = USBIPOutgoing(allocator)
        memories = USBIPMemories(allocator)
        draining.reserveCapacity(USBIPLimits.urbs)
        state.withLock { state in
            state.seqnums.reserveCapacity(USBIPLimits.urbs)
            state.ready.reserveCapacity(USBIPLimits.urbs)
        }
    }

    /// Commands that aren't answered.
    var inFlight: Int { state.withLock { $0.slots.inUse } }
    /// URBs that haven't ended.
    var unfinished: Int { state.withLock { $0.slots.unfinished } }

    // MARK: - The loop's thread

    /// Carries out what the peer says. What ends meanwhile is for `answer`, which must follow.
    /// - Returns: how many of the bytes have been taken. Fewer than there are where much is to be sent first.
    /// - Throws: where the peer is to be sent away.
    func receive(_ bytes: RawSpan) throws(USBIPViolation) -> Int {
        guard !state.withLock({ $0.isEnded }) else { return bytes.byteCount }
        return try read(bytes)
    }

    /// So much waits that it's to be sent before more is read. Has the turn, where it's to be had.
    func isFull() -> Bool {
        let (isMine, loopWaits) = state.withLock { state in
            if state.turn == .nobody { state.turn = .loop }
            if state.turn == .source, state.ready.count >= USBIPLimits.due { state.loopWaits = true }
            return (state.turn == .loop, state.loopWaits)
        }
        return isMine ? outgoing.isFull : loopWaits
    }

    /// A command has been carried out: makes answers to what has ended, from time to time, so that a long read doesn't run
    /// out of slots and memory.
    func noteCommand() {
        sinceAnswer += 1
        guard sinceAnswer >= USBIPLimits.turn else { return }
        sinceAnswer = 0
        if state.withLock({ $0.turn == .loop }) { makeAnswers() }
    }

    /// Answers what has ended, unless somebody else is at it, who then looks again.
    /// - Parameter write: sends what the socket doesn't take at once. It may call all that is the loop's.
    /// - Returns: whether nobody else was at it.
    @discardableResult
    func answer(_ write: (inout [ByteBuffer]) -> Void) -> Bool {
        guard !isAnswering else { return false }
        sinceAnswer = 0
        let isMine = state.withLock { state in
            if state.turn == .nobody { state.turn = .loop }
            if state.turn == .loop { state.loopWaits = false }
            return state.turn == .loop
        }
        guard isMine else { return false }
        isAnswering = true
        repeat { sendAll(write) } while makeAnswersOrEndTurn()
        isAnswering = false
        noteEnd()
        return true
    }

    private func sendAll(_ write: (inout [ByteBuffer]) -> Void) {
        repeat {
            // What a source's thread couldn't send comes first.
            send(write)
            outgoing.give(to: &sending)
        } while !sending.isEmpty
    }

    private func send(_ write: (inout [ByteBuffer]) -> Void) {
        guard !sending.isEmpty else { return }
        if state.withLock({ $0.isEnded }) { return sending.removeAll() }
        guard !sendDirectly() else { return }
        // Nobody's while NIO has it, which may call back.
        var rest: [ByteBuffer] = []
        swap(&rest, &sending)
        write(&rest)
        if sending.isEmpty { swap(&rest, &sending) }
    }

    /// - Parameter sender: nil where no descriptor was left: the loop sends all then.
    func setSender(_ sender: USBIPSender?) {
        state.withLock { $0.sender = sender }
    }

    /// The socket has taken all that the loop has had for it.
    func noteLoopIsEmpty() {
        state.withLock { $0.isDirect = $0.sender != nil }
    }

    // MARK: - Ends

    /// Cancels what is in flight and answers nobody.
    /// - Parameter over: called once, on the loop's thread, when its last URB has ended.
    func end(over: @escaping () -> Void) {
        let (tokens, sender) = state.withLock { state -> ([URBToken]?, USBIPSender?) in
            guard !state.isEnded else { return (nil, nil) }
            state.isEnded = true
            state.isDirect = false
            return (state.slots.tokens, state.sender.take())
        }
        // Closed here, or by whoever is sending.
        _ = consume sender
        guard let tokens else { return }
        whenOver = over
        reader = USBIPFrameReader()
        for token in tokens { device.cancel(token) }
        answer { _ in }
    }

    /// Waits no longer, and calls what `end` was given.
    func abandon() {
        let isSource = state.withLock { state in
            defer { state.turn = .gone }
            return state.turn == .source
        }
        if !isSource { discard() }
        whenOver.take()?()
    }

    private func noteEnd() {
        guard state.withLock({ $0.isEnded && $0.slots.inUse == 0 && $0.turn == .nobody }) else { return }
        whenOver.take()?()
    }
}
