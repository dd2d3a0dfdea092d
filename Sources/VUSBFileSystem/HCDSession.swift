// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// Who reads a channel: told that there may be something to say.
protocol HCDReader: AnyObject, Sendable {
    func channelChanged()
    /// A read may wait that long from now on, in microseconds; one that waits already no longer.
    func waitChanged(_ wait: UInt32)
}

/// A guest's channel from one open to the close: its URBs, its devices, what is to be read. The cases are those of
/// Channel.md. One that is closed lives on until its last URB has ended, whose completion comes here and goes nowhere
/// (rows C7, C9).
///
/// Concurrency model: reader threads write and read, the source's threads complete, the control plane plugs. All state
/// is in one `Mutex`, held across no call out: what is to be done outside is gathered as `Effects`. Who writes or reads
/// takes the stream's input or output out of the state, so that one at a time does, and puts it back. Lock order:
/// `HCDChannel`'s, then this one.
final class HCDSession: URBHandler {
    enum Phase: Equatable {
        case greeting
        case open
        /// The guest has said goodbye.
        case leaving
        case broken
        case closed
    }

    enum Entry: Sendable {
        case record(HCDRecord)
        case completion(Int)
    }

    struct State: ~Copyable {
        var phase = Phase.greeting
        var slots = HCDSlots()
        var outbox = HCDRing<Entry>(capacity: 2 * HCDLimits.urbs)
        /// Records in the outbox that are no completions, and those of them that answer pings.
        var recordCount = 0
        var pongCount = 0
        var devices = HCDDevices()
        var lastHandle: UInt16 = 0
        /// Of `VUSB_QUIESCE` for all.
        var hold = HCDDevice.Hold.none
        /// Ids of the host's own records, and of those who wait for a removal.
        var lastID: UInt64 = 0
        /// Nil while somebody writes.
        var input: HCDInput? = HCDInput()
        /// Nil while somebody reads.
        var output: HCDOutput? = HCDOutput()
        /// Microseconds.
        var wait = HCDLimits.greetingWait
        var maxTransfer = HCDLimits.transfer
        var peer: String?
        /// Of each of the guest's root hubs.
        var ports = 0
        var isOneAtATime = false
        var reader: (any HCDReader)?
    }

    /// What is to be done once the lock is left.
    struct Effects: Sendable {
        var cancels: [(VirtualDevice, URBToken)] = []
        var reader: (any HCDReader)?

        func carryOut() {
            for (device, token) in cancels { device.cancel(token) }
            reader?.channelChanged()
        }
    }

    weak let channel: HCDChannel?
    let state = Mutex(State())
    let answers = HCDAnswers()

    init(channel: HCDChannel?) { self.channel = channel }

    /// Who is told from now on.
    func setReader(_ reader: any HCDReader) { state.withLock { $0.reader = reader } }

    var status: HCDChannelStatus {
        state.withLock { state in
            HCDChannelStatus(
                state: state.phase.shown,
                peer: state.peer,
                ports: state.ports,
                isOneAtATime: state.isOneAtATime,
                urbsInFlight: state.slots.inUse
            )
        }
    }

    /// Microseconds that a read may wait.
    var wait: UInt32 { state.withLock { $0.wait } }

    // MARK: - Ends

    /// The file is closed, or was taken away.
    func close() { end(.closed) }

    /// A rule was broken: tells of it once.
    func breakOff(_ violation: HCDViolation) {
        guard end(.broken) else { return }
        channel?.broken(self, violation)
    }

    /// URBs in flight are cancelled, what is to be read is dropped. False where it has ended before, but a broken one
    /// can still be closed.
    @discardableResult
    private func end(_ phase: Phase) -> Bool {
        let ended: Effects? = state.withLock { state in
            guard state.phase != .closed, state.phase != phase else { return nil }
            let effects = state.isOver ? Effects(reader: state.reader) : state.endAll()
            state.phase = phase
            if phase == .closed { state.reader = nil }
            return effects
        }
        guard let ended else { return false }
        ended.carryOut()
        answers.end()
        dropAll()
        return true
    }

    /// What is dropped goes back to its pools outside of the lock.
    private func dropAll() {
        for index in 0..<HCDLimits.urbs {
            guard state.withLock({ $0.slots.inUse > 0 }) else { break }
            _ = state.withLock { $0.takeFinished(index) }
        }
        _ = state.withLock { $0.input.take() }
        _ = state.withLock { $0.output.take() }
    }

    // MARK: - Completions

    func urbCompleted(_ urb: consuming URB) {
        let status = urb.status
        finish(urb, status)
    }

    /// Puts the URB's completion into the outbox.
    func finish(_ urb: consuming URB, _ status: URBStatus) {
        let slot = Int(urb.context)
        let dataCount = urb.direction == .in ? urb.compactData() : 0
        // What isn't handed on needn't wait for the guest.
        if dataCount == 0 { urb.buffer = nil }
        var urb: URB? = consume urb
        let reader = state.withLock { state -> (any HCDReader)? in
            guard !state.isOver else {
                state.free(slot)
                return nil
            }
            state.slots[slot].status = state.guestStatus(status, device: state.slots[slot].device)
            state.slots[slot].dataCount = dataCount
            state.slots[slot].urb = urb.take()
            state.slots[slot].phase = .finished
            state.outbox.append(.completion(slot))
            return state.reader
        }
        reader?.channelChanged()
    }
}

extension HCDSession.Phase {
    var shown: HCDChannelStatus.State {
        switch self {
        case .greeting: .greeting
        case .open: .open
        case .leaving: .leaving
        case .broken: .broken
        case .closed: .closed
        }
    }
}

extension HCDSession.State {
    /// Nothing comes or goes any more.
    var isOver: Bool { phase == .broken || phase == .closed }

    /// The slot is free, and its device has a URB less.
    mutating func free(_ slot: Int) {
        let handle = slots[slot].device
        slots.free(slot)
        devices.addURBs(-1, to: handle)
    }

    fileprivate mutating func endAll() -> HCDSession.Effects {
        var effects = HCDSession.Effects(reader: reader)
        for index in 0..<HCDLimits.urbs where slots.inUse > 0 {
            if let token = slots.cancel(index), let device = devices[slots[index].device] {
                effects.cancels.append((device.device, token))
            }
            if slots[index].phase == .receiving { free(index) }
        }
        outbox.removeAll()
        devices.removeAll()
        return effects
    }

    fileprivate mutating func takeFinished(_ index: Int) -> URB? {
        guard slots[index].phase == .finished || slots[index].phase == .sending else { return nil }
        slots.free(index)
        return slots[index].urb.take()
    }

    /// What a guest's driver is told. A device that is being reset or drained is not of the driver's making: it sees
    /// what a real controller would say of such a device, so that it tries again in its usual way.
    fileprivate func guestStatus(_ status: URBStatus, device handle: UInt16) -> Int32 {
        let device = devices[handle]
        let seen: URBStatus =
            switch status {
            case .cancelled where device?.removal == .now: .noDevice
            case .busy: device?.isResetting == true ? .shutdown : .protocolError
            // Linux says it of packets only (Documentation/driver-api/usb/error-codes.rst).
            case .partial: .success
            default: status
            }
        return seen.rawValue
    }
}

extension URB {
    /// Moves an isochronous IN transfer's data together, without gaps, and returns how many bytes there are.
    fileprivate mutating func compactData() -> Int {
        guard packetCount > 0 else { return min(actualLength, bufferCapacity) }
        guard let base = unsafe buffer.baseAddress else { return 0 }
        var position = 0
        for index in 0..<packetCount {
            guard let packet = packet(at: index) else { continue }
            let count = Int(min(packet.actualLength, packet.length))
            let offset = Int(packet.offset)
            // A URB that was refused may have a table that doesn't fit its buffer.
            guard offset + count <= bufferCapacity else { return position }
            // SAFETY: both ranges lie in the buffer: the offset was checked, and position never passes it.
            if offset != position { unsafe memmove(base + position, base + offset, count) }
            position += count
        }
        return position
    }
}
