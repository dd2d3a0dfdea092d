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
    private let wake: @Sendable () -> Void
    /// Ends the connection, with the reason; called on any thread.
    let cut: @Sendable (USBError) -> Void
    private let descriptorsRead = Mutex(USBIPImportSession.noDescriptors)

    // SAFETY: from here on all is the loop's thread's.
    var outgoing: USBIPOutgoing
    private var scratch = USBIPScratch()
    private var arrival: USBIPArrival?
    /// Slots by the seqnum of their SUBMIT, and of their UNLINK.
    var seqnums: [UInt32: URBToken] = [:]
    var unlinks: [UInt32: URBToken] = [:]
    private var lastSeqnum: UInt32 = 0
    /// Taken from `toSend`, from `cursor` on not yet sent.
    private var sending: [URBToken] = []
    private var cursor = 0
    private var unlinking: [URBToken] = []
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

    // MARK: - The loop's thread: sending

    /// Puts into the batch what there is to be sent.
    /// - Returns: whether there is more, which is to follow when this was sent.
    func turn() -> Bool {
        while true {
            startChange()
            sendUnlinks()
            if cursor == sending.count {
                sending.removeAll(keepingCapacity: true)
                cursor = 0
                let isEmpty = state.withLock { state in
                    swap(&state.toSend, &sending)
                    if sending.isEmpty, state.toUnlink.isEmpty { state.isAwake = false }
                    return sending.isEmpty && state.toUnlink.isEmpty
                }
                if isEmpty { return false }
            }
            while cursor < sending.count {
                guard !outgoing.isFull else { return true }
                cursor += 1
                send(sending[cursor - 1])
            }
        }
    }

    private func nextSeqnum() -> UInt32 {
        // As `vhci-hcd`, which begins with 1; 0 stands for none with some servers.
        lastSeqnum = lastSeqnum == .max ? 1 : lastSeqnum + 1
        return lastSeqnum
    }

    private func send(_ slot: URBToken) {
        let isChange = state.withLock { $0.slots.isCurrent(slot) && $0.slots[slot.index].isChange }
        guard !isChange else { return queueChange(slot) }
        write(slot)
    }

    /// - Returns: false where it was cancelled meanwhile.
    @discardableResult
    func write(_ slot: URBToken) -> Bool {
        var seqnum: UInt32 = 0
        var taken: URB?
        var interval: UInt32 = 0
        state.withLock { state in
            guard state.slots.isCurrent(slot), state.slots[slot.index].phase == .waiting else { return }
            seqnum = nextSeqnum()
            state.slots[slot.index].phase = .sent
            state.slots[slot.index].seqnum = seqnum
            interval = state.settings.endpoint(state.slots[slot.index].endpoint)?.usbipInterval(record.speed) ?? 0
            taken = state.slots[slot.index].urb.take()
        }
        guard let urb = taken.take() else { return false }
        seqnums[seqnum] = slot
        write(urb, seqnum, interval)
        // Nobody but this thread takes it from a slot that is sent.
        taken = consume urb
        state.withLock { $0.slots[slot.index].urb = taken.take() }
        return true
    }

    private func write(_ urb: borrowing URB, _ seqnum: UInt32, _ interval: UInt32) {
        let command = USBIPSentCommand(urb, seqnum: seqnum, deviceID: record.deviceID, interval: interval)
        let count = urb.usbipDirection == .out ? urb.requestedLength : 0
        outgoing.fill { batch in
            batch.append(command)
            if count > 0 { batch.append(urb, count: count) }
            for index in 0..<urb.packetCount {
                if let packet = urb.packet(at: index) { batch.append(packet) }
            }
        }
    }

    private func sendUnlinks() {
        state.withLock { swap(&$0.toUnlink, &unlinking) }
        for slot in unlinking {
            var seqnum: UInt32 = 0
            let target = state.withLock { state -> UInt32? in
                guard state.slots.isCurrent(slot), state.slots[slot.index].phase == .sent else { return nil }
                seqnum = nextSeqnum()
                state.slots[slot.index].unlink = seqnum
                return state.slots[slot.index].seqnum
            }
            // C8, C12: it has ended.
            guard let target else { continue }
            unlinks[seqnum] = slot
            outgoing.fill {
                $0.append(USBIPSentCommand(unlink: target, seqnum: seqnum, deviceID: record.deviceID))
            }
        }
        unlinking.removeAll(keepingCapacity: true)
    }

    // MARK: - The loop's thread: receiving

    /// Takes answers apart and gives their URBs back. `turn` must follow.
    func receive(_ bytes: RawSpan) throws(USBIPServerFault) {
        state.withLock { $0.isAwake = true }
        var position = 0
        while position < bytes.byteCount {
            if let current = arrival.take() {
                try proceed(current, bytes, &position)
                continue
            }
            let answer = try scratch.whole(USBIPNumbers.headerBytes, of: bytes, at: &position) {
                header throws(USBIPServerFault) in try USBIPAnswer(header)
            }
            switch answer {
            case nil: break
            case .submit(let answer): try begin(answer)
            case .unlink(let seqnum, let status): try endUnlinked(seqnum, status)
            }
        }
    }

    private func begin(_ answer: USBIPReturn) throws(USBIPServerFault) {
        guard let slot = seqnums.removeValue(forKey: answer.seqnum) else { throw .seqnum(answer.seqnum) }
        var taken: URB?
        state.withLock { state in
            state.slots[slot.index].phase = .receiving
            taken = state.slots[slot.index].urb.take()
        }
        guard let urb = taken.take() else { throw .seqnum(answer.seqnum) }
        do throws(USBIPServerFault) {
            try USBIPArrival.check(answer, urb)
        } catch {
            lose(urb, slot)
            throw error
        }
        let current = USBIPArrival(answer, urb, slot: slot)
        if current.isWhole { finish(current) } else { arrival = consume current }
    }

    private func proceed(
        _ current: consuming USBIPArrival, _ bytes: RawSpan, _ position: inout Int
    ) throws(USBIPServerFault) {
        do throws(USBIPServerFault) {
            try current.take(bytes, &position, &scratch)
        } catch {
            // `end` gives its URB back.
            arrival = consume current
            throw error
        }
        if current.isWhole { finish(current) } else { arrival = consume current }
    }

    private func finish(_ arrival: consuming USBIPArrival) {
        var arrival = arrival
        let slot = arrival.slot
        let length = arrival.finish()
        let status = arrival.answer.status
        end(slot, arrival.giveUp(), status, length)
    }

    /// RET_UNLINK: C2 to C5.
    private func endUnlinked(_ seqnum: UInt32, _ status: URBStatus) throws(USBIPServerFault) {
        guard let slot = unlinks.removeValue(forKey: seqnum) else { throw .seqnum(seqnum) }
        var taken: URB?
        var answered: UInt32?
        state.withLock { state in
            if state.slots[slot.index].phase == .ended { return state.slots.release(slot.index) }
            state.slots[slot.index].unlink = nil
            state.slots[slot.index].phase = .receiving
            answered = state.slots[slot.index].seqnum
            taken = state.slots[slot.index].urb.take()
        }
        if let answered { seqnums[answered] = nil }
        guard let urb = taken.take() else { return }
        end(slot, urb, status == .success ? .cancelled : status, 0)
    }

    private func end(_ slot: URBToken, _ urb: consuming URB, _ status: URBStatus, _ length: Int) {
        var final = status
        var isOwn = false
        let isChange = urb.isUSBIPChange
        let operation = urb.operation
        let descriptors = isChange ? descriptors : Self.noDescriptors
        state.withLock { state in
            if status == .cancelled { final = state.slots[slot.index].ending ?? .cancelled }
            isOwn = state.slots[slot.index].isOwn
            state.ended(slot.index)
            if status == .success, isChange { state.note(operation, descriptors: descriptors) }
        }
        if isChange { finishChange() }
        giveBack(urb, final, length: length, isOwn: isOwn)
        startChange()
    }

    private func lose(_ urb: consuming URB, _ slot: URBToken) {
        let isOwn = state.withLock { state in
            defer { state.ended(slot.index) }
            return state.slots[slot.index].isOwn
        }
        giveBack(urb, .noDevice, isOwn: isOwn)
    }

    // MARK: - The loop's thread: the end

    /// The connection is gone: L3 of Imports.md.
    func end() {
        state.withLock { $0.admission = .ended }
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
        seqnums = [:]
        unlinks = [:]
        changes = []
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

extension USBIPImportSession.State {
    /// - Returns: why not, nil where it was taken from `urb`.
    mutating func accept(_ urb: inout URB?, isOwn: Bool) -> URBStatus? {
        guard let next = urb.take() else { return nil }
        let refusal = refusal(next, isOwn: isOwn)
        guard refusal == nil, let slot = slots.take(next, isOwn: isOwn) else {
            urb = consume next
            return refusal ?? .noMemory
        }
        bytesInFlight += next.requestedLength
        if !isOwn { lent += 1 }
        slots[slot.index].urb = consume next
        toSend.append(slot)
        return nil
    }

    private func refusal(_ urb: borrowing URB, isOwn: Bool) -> URBStatus? {
        switch admission {
        case .ended: return .noDevice
        case .resting(let status): if !isOwn { return status }
        case .open: break
        }
        if blocked & (1 << UInt32(urb.endpoint.index)) != 0 { return .shutdown }
        return bytesInFlight + urb.requestedLength > USBIPLimits.bytes ? .noMemory : nil
    }

    /// Somebody has to look.
    /// - Returns: whether the loop must be woken for it.
    mutating func noteWork() -> Bool {
        guard !isAwake else { return false }
        isAwake = true
        return true
    }

    /// C1, C2, C6, C7. The time of C9 begins here: a server that doesn't read has the UNLINK wait.
    /// - Parameter urb: where it has ended: to be given back.
    /// - Returns: whether an UNLINK is to be sent, or a change of settings to be dropped.
    mutating func cancel(_ index: Int, _ status: URBStatus, _ urb: inout URB?) -> Bool {
        switch slots[index].phase {
        case .free, .ended: return false
        case .receiving:
            slots[index].cancelledAt = slots[index].cancelledAt ?? .now
            return false
        case .waiting:
            let isChange = slots[index].isChange
            urb = slots[index].urb.take()
            ended(index)
            return isChange
        case .sent:
            guard slots[index].ending == nil else { return false }
            slots[index].ending = status
            slots[index].cancelledAt = .now
            toUnlink.append(slots.name(of: index))
            return true
        }
    }

    /// The URB isn't the slot's any more.
    mutating func ended(_ index: Int) {
        bytesInFlight -= slots[index].length
        if slots[index].unlink == nil { slots.release(index) } else { slots[index].phase = .ended }
    }

    /// What is in force now.
    mutating func note(_ operation: URB.Operation, descriptors: Descriptors) {
        switch operation {
        case .setConfiguration(let value): settings = ActiveSettings(descriptors, configurationValue: value)
        case .setInterface(let interface, let alternate):
            settings.choose(interface, alternate: alternate, descriptors)
        case .transfer, .clearHalt: break
        }
    }
}

extension USBIPArrival {
    consuming func giveUp() -> URB { urb }
}

extension ByteBuffer {
    /// The first `count` bytes of a URB's data; `VirtualDevice` has checked that they're there.
    fileprivate mutating func append(_ urb: borrowing URB, count: Int) {
        switch urb.buffer {
        case .some(let buffer):
            precondition(count <= buffer.capacity)
            // SAFETY: the count was checked; the buffer is borrowed for the call.
            unsafe writeBytes(UnsafeRawBufferPointer(start: buffer.baseAddress, count: count))
        case .none: writeRepeatingByte(0, count: count)
        }
    }
}
