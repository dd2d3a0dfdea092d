// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What may be taken, sent and ended, by what is in flight. Called with `state` locked.
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
