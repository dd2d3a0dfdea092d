// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// An IN endpoint: a read is one URB of that size, answered when it completes.
///
/// A poll or a non-blocking read can't wait, so it starts one URB ahead; what that brings is kept for the next read.
/// While there is one ahead, reads wait for it, so that bytes stay in order.
///
/// Concurrency model: reader threads read and poll, the source's threads complete. `pending` decides who answers a
/// request; the URB ahead and who waits for it are in one `Mutex`, held across no call out.
final class InEndpointFile: TransferFile {
    private enum Ahead {
        case none
        case inFlight(URBToken)
        /// It is in `result`.
        case ready
    }

    private struct State: ~Copyable {
        var ahead = Ahead.none
        /// Counts the URBs ahead: a late token must not be taken for that of the next.
        var aheadNumber: UInt64 = 0
        var result: URB?
        /// Reads that wait for the URB ahead.
        var waiting: [(key: PendingReplies.Key, size: Int)] = []
        /// For the URB that a poll starts.
        var lastSize: Int
        var isClosed = false
    }

    let id: FileHandleID
    let device: VirtualDevice
    let pending = PendingReplies()
    private let poller = Poller()
    private let address: EndpointAddress
    private let openFiles: OpenFileCount
    private let state: Mutex<State>

    /// The context of the URB ahead; keys of pending replies are never 0.
    private static let aheadContext: UInt64 = 0
    /// What a poll asks for before any read has shown what the reader wants: a multiple of every packet size. For an
    /// isochronous endpoint more, where one packet needs it.
    private static let defaultSize = 4096

    init(id: FileHandleID, attachment: NodeTree.Attachment, address: EndpointAddress) {
        self.id = id
        self.device = attachment.entry.device
        self.address = address
        self.openFiles = attachment.openFiles
        let smallest = InTransfer.smallestRead(attachment.entry.device, address)
        state = Mutex(State(lastSize: max(Self.defaultSize, smallest)))
        openFiles.increment()
    }

    // MARK: - Requests

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        guard size <= TransferLimit.bytes else { return reply.error(EMSGSIZE) }
        // Else a poll would ask for what can't be had, and wait for ever.
        guard size >= InTransfer.smallestRead(device, address) else { return reply.error(EINVAL) }
        let hasNoneAhead = state.withLock { state in
            state.lastSize = size
            return if case .none = state.ahead { true } else { false }
        }
        if isNonblocking {
            readAvailable(reply, size: size)
        } else if hasNoneAhead {
            submit(reply, size: size)
        } else {
            waitForAhead(reply, size: size)
        }
    }

    func poll(_ reply: consuming FUSEReply, events: UInt32, handle: consuming sending PollHandle?) {
        guard events & PollEvents.readable != 0 else { return reply.poll(0) }
        poller.replace(handle)
        startAhead(size: state.withLock { $0.lastSize })
        reply.poll(readiness())
    }

    func forget(_ key: PendingReplies.Key) {
        state.withLock { state in state.waiting.removeAll { $0.key == key } }
    }

    func closed() {
        let ahead = state.withLock { state -> URBToken? in
            state.isClosed = true
            if case .inFlight(let token) = state.ahead { return token }
            state.ahead = .none
            return nil
        }
        // Their ends are outside of the lock.
        poller.replace(nil)
        _ = state.withLock { $0.result.take() }
        if let ahead { device.cancel(ahead) }
        openFiles.decrement()
    }

    // MARK: - One URB a read

    private func submit(_ reply: consuming sending FUSEReply, size: Int) {
        guard let urb = InTransfer.urb(device, address, size: size, handler: self) else {
            return reply.error(ENOMEM)
        }
        submit(reply, urb)
    }

    func urbCompleted(_ urb: consuming URB) {
        guard urb.context != Self.aheadContext else { return aheadCompleted(urb) }
        guard let reply = pending.take(urb.context) else { return }
        InTransfer.answer(reply, urb, device.pool)
    }

    // MARK: - One URB ahead

    private func readAvailable(_ reply: consuming sending FUSEReply, size: Int) {
        startAhead(size: size)
        guard let urb = takeReady(fitting: size) else {
            // What is there doesn't fit: a longer read gets it.
            return reply.error(isReady ? EMSGSIZE : EAGAIN)
        }
        InTransfer.answer(reply, urb, device.pool)
    }

    private func waitForAhead(_ reply: consuming sending FUSEReply, size: Int) {
        park(reply) { key in state.withLock { $0.waiting.append((key, size)) } }
        serveWaiting()
    }

    private func startAhead(size: Int) {
        let number = state.withLock { state -> UInt64? in
            guard !state.isClosed, case .none = state.ahead else { return nil }
            state.ahead = .inFlight(.none)
            state.aheadNumber += 1
            return state.aheadNumber
        }
        guard let number else { return }
        guard let urb = InTransfer.urb(device, address, size: size, handler: self) else {
            return state.withLock { $0.ahead = .none }
        }
        let token = device.submit(urb.with(context: Self.aheadContext))
        let isClosed = state.withLock { state in
            if case .inFlight = state.ahead, state.aheadNumber == number { state.ahead = .inFlight(token) }
            return state.isClosed
        }
        if isClosed { device.cancel(token) }
    }

    private func aheadCompleted(_ urb: consuming URB) {
        var urb: URB? = consume urb
        state.withLock { state in
            state.ahead = state.isClosed ? .none : .ready
            if !state.isClosed { state.result = urb.take() }
        }
        serveWaiting()
        poller.notify()
    }

    /// Gives what came ahead to the first who waits; the others get URBs of their own once there is none ahead.
    private func serveWaiting() {
        while true {
            let next = state.withLock { state -> (key: PendingReplies.Key, size: Int)? in
                if case .inFlight = state.ahead { return nil }
                return state.waiting.isEmpty ? nil : state.waiting.removeFirst()
            }
            guard let next else { return }
            guard let reply = pending.take(next.key) else { continue }
            if let urb = takeReady(fitting: next.size) {
                InTransfer.answer(reply, urb, device.pool)
            } else if isReady {
                reply.error(EMSGSIZE)
            } else {
                submit(reply, size: next.size)
            }
        }
    }

    private func takeReady(fitting size: Int) -> URB? {
        state.withLock { state in
            let isFitting =
                switch state.result {
                case .some(let urb): urb.status != .success || urb.replySize <= size
                case .none: false
                }
            guard isFitting else { return nil }
            state.ahead = .none
            return state.result.take()
        }
    }

    private var isReady: Bool { state.withLock { state in if case .ready = state.ahead { true } else { false } } }

    private func readiness() -> UInt32 {
        let isGone = if case .closed = device.admission { true } else { false }
        return (isReady ? PollEvents.readable : 0) | (isGone ? PollEvents.gone : 0)
    }
}
