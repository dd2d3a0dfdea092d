// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// A device that a peer has imported: takes the peer's commands and makes the answers. The cases are those of USBIP.md.
/// One that has ended lives on until its last URB has.
///
/// Concurrency model: the loop's thread does all but one thing: the source's threads complete URBs, which puts them into
/// a queue of `state`, a Mutex that is held across no call out, and calls `wake` where nobody is going to look. What
/// isn't in `state` is the loop's. Lock order: a leaf.
@safe
final class USBIPSession: URBHandler, @unchecked Sendable {
    struct State: ~Copyable {
        var slots = USBIPSlots()
        /// Slots whose URB has ended, in that order.
        var ready: [Int] = []
        var watch = Watch.asleep
        /// Answered last, for those who want to know how long nothing has happened.
        var lastTransfer: CoarseInstant?
    }

    /// Who is going to look at what has ended.
    enum Watch: Equatable {
        /// Whoever completes a URB wakes the loop.
        case asleep
        /// The loop has been woken, or is at it.
        case awake
        /// Nobody: what ends is dropped.
        case gone
    }

    let device: VirtualDevice
    let deviceID: UInt32
    /// As it's told of.
    let peer: String
    let state = Mutex(State())
    private let wake: @Sendable () -> Void

    // SAFETY: from here on all is the loop's thread's.
    var outgoing: USBIPOutgoing
    var memories: USBIPMemories
    var reader = USBIPFrameReader()
    /// The slots of what is in flight.
    var seqnums: [UInt32: Int] = [:]
    /// What those ask for.
    var bytesInFlight = 0
    var early = USBIPEarlyUnlinks()
    private var draining: [Int] = []
    private var sinceAnswer = 0
    private(set) var isEnded = false
    private var whenOver: (() -> Void)?

    /// - Parameter wake: has the loop call `turn` soon; called on any thread.
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
        seqnums.reserveCapacity(USBIPLimits.urbs)
        draining.reserveCapacity(USBIPLimits.urbs)
        state.withLock { $0.ready.reserveCapacity(USBIPLimits.urbs) }
    }

    var inFlight: Int { state.withLock { $0.slots.inUse } }

    // MARK: - The loop's thread

    /// Answers what has ended. Whoever completes a URB from now on wakes the loop again.
    func turn() {
        while answer(andSleep: true) {}
    }

    /// Carries out what the peer says. What ends meanwhile is for `turn`, which must follow.
    /// - Returns: how many of the bytes have been taken. Fewer than there are where much is to be sent first.
    /// - Throws: where the peer is to be sent away.
    func receive(_ bytes: RawSpan) throws(USBIPViolation) -> Int {
        guard !isEnded else { return bytes.byteCount }
        state.withLock { if $0.watch == .asleep { $0.watch = .awake } }
        return try read(bytes)
    }

    /// A URB has been submitted: answers what has ended, from time to time, so that a long read doesn't run out of slots
    /// and memory.
    func noteSubmit() {
        sinceAnswer += 1
        if sinceAnswer >= USBIPLimits.turn { answerEnded() }
    }

    /// So that what is answered at once comes behind what has ended before: how frames are cut makes no difference.
    func answerEnded() { answer(andSleep: false) }

    /// - Returns: whether there was something.
    @discardableResult
    private func answer(andSleep: Bool) -> Bool {
        sinceAnswer = 0
        state.withLock { state in
            swap(&state.ready, &draining)
            if andSleep, draining.isEmpty, state.watch == .awake { state.watch = .asleep }
        }
        guard !draining.isEmpty else { return false }
        let now = CoarseInstant.now
        state.withLock { $0.lastTransfer = now }
        for slot in draining {
            let finished = state.withLock { $0.slots.release(slot) }
            if seqnums[finished.seqnum] == slot { seqnums[finished.seqnum] = nil }
            answer(finished)
        }
        draining.removeAll(keepingCapacity: true)
        if isEnded { noteEnd() }
        return true
    }

    // MARK: - Ends

    /// Cancels what is in flight and answers nobody.
    /// - Parameter over: called once, on the loop's thread, when its last URB has ended.
    func end(over: @escaping () -> Void) {
        guard !isEnded else { return }
        isEnded = true
        whenOver = over
        reader = USBIPFrameReader()
        for token in state.withLock({ $0.slots.tokens }) { device.cancel(token) }
        turn()
        noteEnd()
    }

    /// Waits no longer.
    func abandon() {
        state.withLock { $0.watch = .gone }
        whenOver.take()?()
    }

    private func noteEnd() {
        guard inFlight == 0 else { return }
        whenOver.take()?()
    }

    // MARK: - The source's threads

    func urbCompleted(_ urb: consuming URB) {
        let slot = Int(urb.context)
        var urb: URB? = consume urb
        let isToWake = state.withLock { state in
            guard state.watch != .gone else { return false }
            state.slots[slot].urb = urb.take()
            state.slots[slot].phase = .finished
            state.ready.append(slot)
            guard state.watch == .asleep else { return false }
            state.watch = .awake
            return true
        }
        if isToWake { wake() }
    }
}
