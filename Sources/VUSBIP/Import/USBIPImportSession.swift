// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// A device that was imported, as long as its connection lasts: sends URBs and takes the server's answers. The cases are those of
/// Imports.md.
///
/// Concurrency model: any thread submits and cancels, which puts a slot's name into a queue of `state`, a Mutex that is held
/// across no call out, and calls `wake` where nobody is going to look. All else is the loop's thread's. Lock order: a leaf.
final class USBIPImportSession: @unchecked Sendable {
    /// Whether URBs are taken.
    enum Admission: Equatable {
        case open
        /// Only this host's own; others end with this.
        case resting(URBStatus)
        case ended
    }

    struct State: ~Copyable {
        var slots = USBIPImportSlots()
        /// Slots to be sent, and to be unlinked, in that order.
        var toSend: [URBToken] = []
        var toUnlink: [URBToken] = []
        var bytesInFlight = 0
        /// URBs of others than this host that haven't been given back, with those whose handler runs.
        var lent = 0
        var admission = Admission.open
        /// Endpoints that a change of settings disables, a bit an index.
        var blocked: UInt32 = 0
        var settings: ActiveSettings
        /// The loop is going to look.
        var isAwake = false
        var idleWaiters: [CheckedContinuation<Void, Never>] = []
        var isEnded: Bool { admission == .ended }
    }

    static let noDescriptors = Descriptors(
        device: DeviceDescriptor(
            bcdUSB: 0, bDeviceClass: 0, bDeviceSubClass: 0, bDeviceProtocol: 0, bMaxPacketSize0: 8, idVendor: 0,
            idProduct: 0, bcdDevice: 0, iManufacturer: 0, iProduct: 0, iSerialNumber: 0, bNumConfigurations: 0),
        configurations: [], bytes: [])

    let record: USBIPImportRecord
    let state: Mutex<State>
    /// Has the loop call `turn` soon; called on any thread.
    let wake: @Sendable () -> Void
    /// Ends the connection, with the reason; called on any thread.
    let cut: @Sendable (USBError) -> Void
    private let descriptorsRead = Mutex(USBIPImportSession.noDescriptors)

    // SAFETY: from here on all is the loop's thread's.
    /// What one read brings, or the end.
    let pass = CompletionPass()
    var outgoing: USBIPOutgoing
    var scratch = USBIPScratch()
    var arrival: USBIPArrival?
    /// Slots by the seqnum of their SUBMIT, and of their UNLINK.
    var seqnums: [UInt32: URBToken] = [:]
    var unlinks: [UInt32: URBToken] = [:]
    var lastSeqnum: UInt32 = 0
    /// Taken from `toSend`, from `cursor` on not yet sent.
    var sending: [URBToken] = []
    var cursor = 0
    var unlinking: [URBToken] = []
    /// Changes of settings, one after the other: the first is under way.
    var changes: [URBToken] = []
    /// The last whose endpoints were cleared.
    var cleared = URBToken.none
    var isChangeSent = false

    init(
        _ record: USBIPImportRecord, _ allocator: ByteBufferAllocator, wake: @escaping @Sendable () -> Void,
        cut: @escaping @Sendable (USBError) -> Void
    ) {
        self.record = record
        self.wake = wake
        self.cut = cut
        outgoing = USBIPOutgoing(allocator)
        state = Mutex(State(settings: ActiveSettings(Self.noDescriptors, configurationValue: 0)))
        seqnums.reserveCapacity(USBIPLimits.urbs)
        sending.reserveCapacity(USBIPLimits.urbs)
        state.withLock { $0.toSend.reserveCapacity(USBIPLimits.urbs) }
    }

    /// What the device says of itself, once it was read.
    var descriptors: Descriptors {
        get { descriptorsRead.withLock { $0 } }
        set { descriptorsRead.withLock { $0 = newValue } }
    }

    /// Slots that aren't free. Zero when nothing is in flight: tests end with this.
    var inUse: Int { state.withLock { $0.slots.inUse } }

    // MARK: - Any thread

    func submit(_ urb: consuming URB) { accept(urb, isOwn: false) }

    /// - Parameter isOwn: this host's, which is taken while others rest.
    func accept(_ urb: consuming URB, isOwn: Bool) {
        guard urb.streamID == 0 else { return urb.complete(.notSupported) }
        var urb: URB? = consume urb
        var isToWake = false
        let refusal = state.withLock { state -> URBStatus? in
            if let refusal = state.accept(&urb, isOwn: isOwn) { return refusal }
            isToWake = state.noteWork()
            return nil
        }
        if let refusal, let refused = urb.take() { return refused.complete(refusal) }
        if isToWake { wake() }
    }

    func cancel(_ token: URBToken) {
        var ended: URB?
        var isToWake = false
        state.withLock { state in
            guard let index = state.slots.slot(of: token) else { return }
            isToWake = state.cancel(index, .cancelled, &ended) && state.noteWork()
        }
        if let ended = ended.take() { giveBack(ended, .cancelled, isOwn: false) }
        if isToWake { wake() }
    }

    /// Cancels URBs on these endpoints, but this host's own.
    func cancelAll(on endpoints: UInt32, _ status: URBStatus) {
        for index in 0..<USBIPLimits.urbs {
            var ended: URB?
            let isToWake = state.withLock { state in
                guard !state.slots[index].isOwn, endpoints & (1 << UInt32(state.slots[index].endpoint.index)) != 0
                else { return false }
                return state.cancel(index, status, &ended) && state.noteWork()
            }
            if let ended = ended.take() { giveBack(ended, status, isOwn: false) }
            if isToWake { wake() }
        }
    }

    /// Its slot is free, or knows that it has ended.
    func giveBack(_ urb: consuming URB, _ status: URBStatus, length: Int = 0, isOwn: Bool) {
        urb.complete(status, actualLength: length)
        guard !isOwn else { return }
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.lent -= 1
            guard state.lent == 0, !state.idleWaiters.isEmpty else { return [] }
            defer { state.idleWaiters = [] }
            return state.idleWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// When all URBs but this host's own have been given back.
    func idle() async {
        await withCheckedContinuation { waiter in
            let isIdle = state.withLock { state in
                if state.lent > 0 { state.idleWaiters.append(waiter) }
                return state.lent == 0
            }
            if isIdle { waiter.resume() }
        }
    }

    // MARK: - The loop's thread: the end

    /// The connection is gone: L3 of Imports.md.
    func end() {
        state.withLock { $0.admission = .ended }
        pass.run { loseAll() }
        seqnums = [:]
        unlinks = [:]
        changes = []
    }

    private func loseAll() {
        if let current = arrival.take() {
            let slot = current.slot
            lose(current.giveUp(), slot)
        }
        for index in 0..<USBIPLimits.urbs {
            var taken: URB?
            var isOwn = false
            state.withLock { state in
                isOwn = state.slots[index].isOwn
                state.slots[index].unlink = nil
                switch state.slots[index].phase {
                case .free, .receiving: return
                case .ended: return state.slots.release(index)
                case .waiting, .sent:
                    taken = state.slots[index].urb.take()
                    state.ended(index)
                }
            }
            if let urb = taken.take() { giveBack(urb, .noDevice, isOwn: isOwn) }
        }
    }

    /// C9: since when one that was cancelled has waited for its end, or for the answer to its UNLINK; nil for none.
    var oldestCancel: ContinuousClock.Instant? {
        state.withLock { state in
            guard state.slots.inUse > 0 else { return nil }
            var oldest: ContinuousClock.Instant?
            for index in 0..<USBIPLimits.urbs where state.slots[index].phase != .free {
                guard let since = state.slots[index].cancelledAt else { continue }
                if oldest == nil || since < oldest ?? since { oldest = since }
            }
            return oldest
        }
    }

    var isResting: Bool {
        state.withLock { state in
            if case .resting = state.admission { return true }
            return false
        }
    }
}
