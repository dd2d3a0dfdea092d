// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// SET_CONFIGURATION and SET_INTERFACE, on the loop's thread: S5 of Imports.md. One at a time, when the URBs on the endpoints that it
/// disables have ended.
extension USBIPImportSession {
    func queueChange(_ slot: URBToken) {
        changes.append(slot)
        startChange()
    }

    /// Goes on with the first change, where something can be done for it.
    func startChange() {
        while !isChangeSent, let slot = changes.first {
            guard let endpoints = block(slot) else {
                // Cancelled while it waited.
                changes.removeFirst()
                state.withLock { $0.blocked = 0 }
                continue
            }
            if cleared != slot {
                cleared = slot
                // None comes after: they're blocked.
                cancelAll(on: endpoints, .shutdown)
            }
            guard !hasURBs(on: endpoints), changes.first == slot else { return }
            isChangeSent = write(slot)
        }
    }

    /// Its answer is here.
    func finishChange() {
        guard isChangeSent else { return }
        isChangeSent = false
        if !changes.isEmpty { changes.removeFirst() }
        state.withLock { $0.blocked = 0 }
    }

    /// - Returns: the endpoints that take nothing from now on; nil where it's not wanted any more.
    private func block(_ slot: URBToken) -> UInt32? {
        let descriptors = descriptors
        return state.withLock { state -> UInt32? in
            guard state.slots.isCurrent(slot), state.slots[slot.index].phase == .waiting,
                let operation = state.slots[slot.index].urb?.operation
            else { return nil }
            state.blocked = state.settings.disabled(by: operation, descriptors)
            return state.blocked
        }
    }

    private func hasURBs(on endpoints: UInt32) -> Bool {
        state.withLock { state in
            (0..<USBIPLimits.urbs).contains { index in
                switch state.slots[index].phase {
                case .free, .ended: false
                case .waiting, .sent, .receiving: endpoints & (1 << UInt32(state.slots[index].endpoint.index)) != 0
                }
            }
        }
    }
}

extension ActiveSettings {
    /// Endpoints that an operation disables, a bit an index; never endpoint 0.
    fileprivate func disabled(by operation: URB.Operation, _ descriptors: Descriptors) -> UInt32 {
        switch operation {
        case .setConfiguration: return ~(1 | 1 << 16)
        case .setInterface(let interface, _):
            let configuration = descriptors.configuration(value: configurationValue)
            let setting = configuration?.alternateSettings(alternates).first { $0.bInterfaceNumber == interface }
            return (setting?.endpoints ?? []).reduce(0) { $0 | 1 << UInt32($1.bEndpointAddress.index) }
        case .transfer, .clearHalt: return 0
        }
    }
}
