// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// What goes out, on the loop's thread: URBs and UNLINKs, as the outbox has room.
extension USBIPImportSession {
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
