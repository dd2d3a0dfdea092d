// SPDX-License-Identifier: Apache-2.0

import Synchronization

// What becomes of a URB between its submit and the backend where the device has a lane.
extension VirtualDevice {
    /// Hands a URB in phase `held` to the backend, or holds it back.
    func schedule(_ urb: consuming URB, on lane: BusLane) {
        if lane.admits(&urb) { return carryOut(urb) }
        let token = urb.token
        lane.hold(urb)
        // A cancel, or the like, that came before it was there has looked for it in vain.
        let status = state.withLock { $0.heldStatus(token) }
        if let status, let urb = lane.take(token) { urb.complete(status) }
        lane.pump()
    }

    /// Hands a URB in phase `held` to the backend. On the submitting thread, or on whichever pumps.
    func carryOut(_ urb: consuming URB) {
        let token = urb.token
        let status = state.withLock { $0.begin(token) }
        if let status { return urb.complete(status) }
        handDown(urb)
    }

    /// Ends URBs that were marked as cancelled while they were held. One that isn't at the scheduler any more, or not
    /// yet, ends with whoever has it: `carryOut` or `schedule`.
    func endHeld(_ tokens: [URBToken]) {
        guard let lane, !tokens.isEmpty else { return }
        for token in tokens {
            if let urb = lane.take(token) { urb.complete(.cancelled) }
        }
        lane.pump()
    }

    /// Ends what is held back on these endpoints, a bit an index.
    func endHeld(on endpoints: UInt32, with status: URBStatus) {
        guard let lane, endpoints != 0 else { return }
        while let urb = lane.takeFirst(on: endpoints) { urb.complete(status) }
        lane.pump()
    }

    /// A URB has ended, and its submitter isn't told yet.
    /// - Returns: whether others wait for what it leaves: to be pumped when its submitter has been told.
    func leaveLane(_ lane: BusLane, _ urb: borrowing URB) -> Bool {
        let isAwaited = urb.charge.isEmpty ? false : lane.ended(urb)
        guard urb.status == .success else { return isAwaited }
        // As a backend does with what it has: what was submitted for the settings from before doesn't see the new ones.
        switch urb.operation {
        case .setConfiguration: endHeld(on: .max & ~(1 | 1 << 16), with: .shutdown)
        case .setInterface(let interface, _): endHeld(on: endpoints(of: interface), with: .shutdown)
        case .transfer, .clearHalt: break
        }
        return isAwaited
    }

    /// All that the interface has in any setting.
    private func endpoints(of interface: InterfaceNumber) -> UInt32 {
        let configuration = descriptors.configuration(value: settings.configurationValue)
        let settings = configuration?.interfaces.filter { $0.bInterfaceNumber == interface } ?? []
        return settings.flatMap(\.endpoints).reduce(0) { $0 | 1 << UInt32($1.bEndpointAddress.index) }
    }
}

extension VirtualDevice.State {
    /// A URB in phase `held` is to go to the backend: nil where it may, and the caller owes a `callsReturned`; else
    /// what it ends with.
    fileprivate mutating func begin(_ token: URBToken) -> URBStatus? {
        if let status = heldStatus(token) { return status }
        guard table.begin(token) else { return .cancelled }
        callsBelow += 1
        return nil
    }

    /// What a URB in phase `held` ends with; nil where it may go on.
    fileprivate func heldStatus(_ token: URBToken) -> URBStatus? {
        if isResetting { return .shutdown }
        if case .closed = admission { return .cancelled }
        return table.isHeld(token) ? nil : .cancelled
    }
}
