// SPDX-License-Identifier: Apache-2.0

internal import DequeModule
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// One opener of a device, from open(2) to the last close(2). The cases are those of CharDevice.md. One that is released
/// lives on until its last URB has ended.
///
/// Concurrency model: the loop's threads bring requests, the source's threads ends of URBs, the control plane quiets and
/// ends. All state is in one `Mutex`, held across no call out; what a locked region decides is in `UsbfsEffects`, and is
/// done after it. Who has taken a wait out answers it. One thread at a time submits (`isPumping`), so that URBs reach the
/// device in the order in which they became ready. Lock order: none is held when another is taken.
final class UsbfsSession: URBHandler, @unchecked Sendable {
    // SAFETY: all that changes is behind the Mutex.
    enum Phase {
        case open
        case gone
        case released
    }

    struct State {
        var phase = Phase.open
        var urbs: [UsbfsURBSlot] = []
        var freeURBs: [Int] = []
        var completed = Deque<Int>()
        var transfers: [UsbfsTransfer] = []
        var freeTransfers: [Int] = []
        var pendingTransfers = 0
        /// Bulk transfers that haven't ended, by the endpoint's index, in the order of submission.
        var lines: [Deque<Int>] = Array(repeating: [], count: 32)
        /// Bulk endpoints, by their index, that take no continuation until a new transfer begins (U6).
        var disabled: UInt32 = 0
        /// The transfer that is gathering.
        var chain: Int?
        var chainDeadline: ContinuousClock.Instant?
        /// To be submitted, in this order.
        var ready = Deque<Int>()
        var isPumping = false
        var offers = UsbfsOffers()
        var waits: [UsbfsWait] = []
        /// Oldest first.
        var outData: [UsbfsOutData] = []
        var lastOrder: UInt64 = 0
        /// Interfaces that may be claimed; nil before privileges are dropped.
        var allowedInterfaces: UInt32?
        /// By endpoint index: streams that were allotted.
        var streams: [UInt8: UInt32] = [:]
        var readPosition = 0
        var poller: (any UsbfsPolled)?
        /// When a URB was last begun or ended.
        var lastUse: ContinuousClock.Instant?
    }

    let id: UInt64
    let node: UsbfsNode
    let isWritable: Bool
    /// Of who opened it; 0 where that can't be seen.
    let process: Int32
    let state = Mutex(State())

    var device: VirtualDevice { node.device }

    init(_ id: UInt64, _ node: UsbfsNode, isWritable: Bool, process: Int32) {
        self.id = id
        self.node = node
        self.isWritable = isWritable
        self.process = process
    }

    // MARK: - Requests

    /// - Parameter input: bytes that the last round asked for; valid during the call.
    func control(
        _ reply: consuming UsbfsReply, number: UInt32, argument: UInt64, input: Span<UInt8>, outCount: Int
    ) {
        // As after an lseek(2) to the beginning, which isn't told.
        state.withLock { $0.readPosition = 0 }
        guard isWritable else { return reply.error(EPERM) }
        let command = UsbfsCommand(number: number)
        if case .reapURB = command?.kind {} else if !node.isConnected { return reply.error(ENODEV) }
        guard let command else { return reply.error(ENOTTY) }
        if command.beginsWork, node.phase == .quiet { return keep(reply, command, argument) }
        switch UsbfsPlan(command, argument: argument, input: input, outCount: outCount) {
        case .again(let ranges): reply.again(ranges)
        case .fail(let errno): reply.error(errno)
        case .carryOut(let request):
            switch request {
            case .submit, .collect: break
            default: closeChain()
            }
            carryOut(request, UsbfsContext(layout: command.layout, argument: argument), input, reply)
        }
    }

    private func carryOut(
        _ request: UsbfsRequest, _ context: UsbfsContext, _ input: Span<UInt8>, _ reply: consuming UsbfsReply
    ) {
        switch request {
        case .submit(let urb, let setup, let packets, let data):
            let parts = UsbfsSubmission(urb: urb, setup: setup, packets: packets, data: data)
            submit(parts, context, input, reply)
        case .collect(let urb, let head): collect(urb, head: head, context, input, reply)
        case .reap(let waits, let offer): reap(context, waits: waits, offer: offer, reply)
        case .discard: discard(context.argument, reply)
        case .control(let setup, let timeout, let data): control(setup, timeout: timeout, input, data, reply)
        case .bulk(let endpoint, let length, let timeout, let data):
            bulk(endpoint, length: length, timeout: timeout, input, data, reply)
        default: carryOutRest(request, reply)
        }
    }

    /// Reads on from where the last read ended.
    func read(_ reply: consuming UsbfsReply, size: Int) {
        guard node.isConnected else { return reply.error(ENODEV) }
        let bytes = device.descriptors.bytes
        let range = state.withLock { state in
            let start = min(state.readPosition, bytes.count)
            let end = min(bytes.count, start + max(0, size))
            // Who has met the end begins anew.
            state.readPosition = start == bytes.count ? 0 : end
            return start..<end
        }
        reply.read(bytes[range])
    }

    func poll(_ reply: consuming UsbfsReply, _ poller: (any UsbfsPolled)?) {
        closeChain()
        let isConnected = node.isConnected
        let (events, old) = state.withLock { state in
            // Before the look at what there is: a change after it notifies.
            let old = state.poller
            if poller != nil { state.poller = poller }
            var events = state.completed.isEmpty || !isWritable ? 0 : UsbfsPollEvents.reapable
            // Who is told of the end reaps until the first error, as libusb does, and a long one gives several (U25).
            let isLongLeft = state.completed.contains { state.urbs[$0].isLong }
            // In Linux, too, all has ended by then.
            let isOver = !isLongLeft && state.pendingTransfers == 0
            if !isConnected || state.phase != .open, isOver { events |= UsbfsPollEvents.gone }
            return (events, old)
        }
        reply.poll(events)
        // Its life ends outside of the lock.
        withExtendedLifetime(old) {}
    }

    /// U19.
    func release(_ reply: consuming UsbfsReply) {
        node.forget(self)
        let wait = UsbfsWait(reply.request, .release)
        wait.deadline = .now + .seconds(2)
        var reply: UsbfsReply? = consume reply
        var effects = UsbfsEffects()
        let deadline = state.withLock { state in
            state.phase = .released
            state.readPosition = 0
            wait.reply = reply.take()
            state.waits.append(wait)
            state.cancelAll(.kill, &effects)
            state.answerRelease(&effects)
            state.takeCompleted(&effects)
            state.dropOutData(&effects) { _ in true }
            // The kernel lets nobody wait in a file that is released; nor is anybody forgotten.
            state.answerGone(&effects)
            return state.nextDeadline
        }
        perform(effects)
        if let deadline { node.clock.wake(self, at: deadline) }
    }

    // MARK: - The control plane

    /// U21.
    func end() {
        var effects = UsbfsEffects()
        state.withLock { state in
            if state.phase == .open { state.phase = .gone }
            state.cancelAll(.shutdown, &effects)
            state.dropOutData(&effects) { _ in true }
            state.answerGone(&effects)
            effects.poller = state.poller
        }
        perform(effects)
    }

    /// Cancels what is pending on an interface (U17, U18): as what is killed, or as what is shut down with its endpoints.
    @discardableResult
    func cancel(on interface: UInt8, _ kind: UsbfsTransfer.Cancel) -> UsbfsEnding {
        var effects = UsbfsEffects()
        let order = state.withLock { state in
            for transfer in state.transfers where transfer.isPending && transfer.interface == interface {
                state.cancel(transfer, kind, &effects)
            }
            return state.lastOrder
        }
        perform(effects)
        return UsbfsEnding(session: self, interface: interface, order: order)
    }

    struct Use: Sendable {
        var pending: Int
        var unreaped: Int
        var lastUse: ContinuousClock.Instant?
    }

    var use: Use {
        state.withLock { state in
            let waiting = state.waits.count { if case .reset = $0.kind { true } else { false } }
            return Use(
                pending: state.pendingTransfers + waiting, unreaped: state.completed.count, lastUse: state.lastUse)
        }
    }
}

/// What was cancelled with a claim: an opener's URBs on an interface, up to an order.
struct UsbfsEnding {
    let session: UsbfsSession
    let interface: UInt8
    let order: UInt64
}

/// Who waits for a change of an opener's file; told once.
protocol UsbfsPolled: AnyObject, Sendable {
    func notify()
}

/// Bits of poll(2), as FUSE carries them.
enum UsbfsPollEvents {
    static let reapable = UInt32(POLLOUT | Int32(POLLWRNORM))
    static let gone = UInt32(POLLERR | POLLHUP)
}

/// What of an ioctl isn't in its request.
struct UsbfsContext {
    let layout: UsbfsLayout
    let argument: UInt64
}

/// A SUBMITURB with where its parts lie in the input.
struct UsbfsSubmission {
    let urb: UsbfsURB
    let setup: SetupPacket?
    let packets: Int
    let data: Int
    /// All OUT data, where they came in several rounds.
    var collected: UsbfsOutData?
}

/// What is to be done once the session's lock is free.
struct UsbfsEffects {
    enum Answer {
        /// An errno, or 0.
        case error(Int32)
        case result(Int32)
        case again(CallerRanges)
        /// The data of a call.
        case data(UsbfsTransfer)
    }

    var answers: [(wait: UsbfsWait, answer: Answer)] = []
    var cancels: [URBToken] = []
    /// Ended; what is in them is freed.
    var ended: [UsbfsTransfer] = []
    /// Bytes of URBs that nobody will reap.
    var freedBytes = 0
    /// Memory that is freed with this.
    var dropped: [UsbfsOutData] = []
    var poller: (any UsbfsPolled)?
    var pumps = false
}
