// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// What a read of a channel finds.
enum HCDReading: ~Copyable, Sendable {
    /// Nothing to say, or somebody else is just saying it.
    case nothing
    /// No bytes, at once.
    case empty
    /// An errno, positive.
    case failed(Int32)
    /// Something: to be filled, handed over and given back by `endRead`.
    case output(HCDOutput)
}

/// Reads: what is in the outbox goes to the guest. A slot and its credit are free when the last byte of its completion
/// is in an answer, just before that is given: once it is, the guest may use them.
extension HCDSession {
    func beginRead() -> HCDReading {
        state.withLock { state in
            switch state.phase {
            case .broken: return .failed(EPROTO)
            case .closed: return .failed(ENODEV)
            case .greeting: return .nothing
            case .open, .leaving: break
            }
            guard let output = state.output.take() else { return .nothing }
            if !output.isEmpty || !state.outbox.isEmpty { return .output(output) }
            state.output = consume output
            return state.phase == .leaving ? .empty : .nothing
        }
    }

    /// Whether a read would get an answer at once.
    var isReadable: Bool {
        state.withLock { state in
            if state.phase != .open { return state.phase != .greeting }
            if !state.outbox.isEmpty { return true }
            return switch state.output {
            case .some(let output): !output.isEmpty
            case .none: false
            }
        }
    }

    func fill(_ output: inout HCDOutput, size: Int) {
        state.withLock { state in
            repeat {
                if output.isEmpty { state.beginNext(&output) }
                if output.isEmpty { return }
                guard output.emit(size: size) else { return }
                if let slot = output.slot { state.freeSent(slot) }
            } while output.count < size
        }
    }

    func endRead(_ output: consuming HCDOutput, isDelivered: Bool = true) {
        var output: HCDOutput? = consume output
        output?.clear()
        state.withLock { state in
            if !state.isOver { state.output = output.take() }
        }
        guard !isDelivered else { return }
        breakOff(HCDViolation("an answer to a read couldn't be delivered"))
    }
}

extension HCDSession.State {
    fileprivate mutating func beginNext(_ output: inout HCDOutput) {
        guard !isOver, let entry = outbox.popFirst() else { return }
        switch entry {
        case .record(let record):
            recordCount -= 1
            if record.kind == .pong { pongCount -= 1 }
            output.begin(record)
        case .completion(let slot):
            let record = completion(of: slot)
            slots[slot].phase = .sending
            output.begin(record, urb: slots[slot].urb.take(), dataCount: slots[slot].dataCount, slot: slot)
        }
    }

    /// It may have been dropped meanwhile, at an end.
    fileprivate mutating func freeSent(_ slot: Int) {
        if slots[slot].phase == .sending { free(slot) }
    }

    private func completion(of slot: Int) -> HCDRecord {
        let dataCount = slots[slot].dataCount
        var packets = 0
        var fields = HCDRecord.Complete(status: slots[slot].status)
        switch slots[slot].urb {
        case .some(let urb):
            packets = urb.packetCount
            fields.packets = UInt16(truncatingIfNeeded: packets)
            fields.startFrame = urb.startFrame
            fields.errorCount = UInt16(clamping: min(urb.errorCount, packets))
            fields.actualLength = UInt32(clamping: urb.direction == .in ? dataCount : urb.actualLength)
        case .none: break
        }
        var record = HCDRecord(
            .complete,
            device: slots[slot].device,
            id: slots[slot].id,
            payload: packets * HCDPacket.byteCount + dataCount
        )
        record.complete = fields
        return record
    }
}
