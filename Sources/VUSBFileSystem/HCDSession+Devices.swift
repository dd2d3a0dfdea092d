// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Synchronization
internal import VUSBCore

/// What the control plane has the guest told. `HCDChannel` calls it under its lock where it says so; what is to be done
/// outside is returned then.
extension HCDSession {
    /// Says that the device is there. Under the channel's lock.
    /// - Returns: its handle; 0 where the session is over or can't take more.
    func add(_ device: VirtualDevice, port: UInt32) -> (handle: UInt16, violation: HCDViolation?) {
        state.withLock { state in
            guard state.phase == .open else { return (0, nil) }
            guard state.lastHandle < .max, state.devices.count < HCDLimits.devices else {
                return (0, HCDViolation("devices that aren't let go of"))
            }
            let handle = state.lastHandle + 1
            var record = HCDRecord(.added, device: handle)
            record.addedSpeed = device.speed.channelValue
            record.addedPort = port
            do throws(HCDViolation) {
                try state.say(record)
            } catch {
                return (0, error)
            }
            state.lastHandle = handle
            state.devices[handle] = HCDDevice(device)
            return (handle, nil)
        }
    }

    /// Has the guest let go of the device; its URBs are cancelled where it's to be now.
    /// - Returns: what to wait for in `answers`; nil where the guest doesn't have the device.
    @discardableResult
    func remove(_ handle: UInt16, orderly: Bool, isAwaited: Bool) -> UInt64? {
        var key: UInt64?
        var cancels: [(VirtualDevice, URBToken)] = []
        perform { state throws(HCDViolation) in
            guard let entry = state.devices[handle] else { return }
            if isAwaited {
                let next = state.nextID()
                state.devices[handle]?.waiters.append(next)
                answers.expect(next)
                key = next
            }
            guard entry.removal == .none || (entry.removal == .orderly && !orderly) else { return }
            var record = HCDRecord(.remove, device: handle)
            record.removal = UInt8(orderly ? VUSB_REMOVE_ORDERLY.rawValue : VUSB_REMOVE_NOW.rawValue)
            try state.say(record)
            state.devices[handle]?.removal = orderly ? .orderly : .now
            state.devices[handle]?.hold = .none
            if !orderly { cancels = state.cancelAll(of: handle) }
        }
        for (device, token) in cancels { device.cancel(token) }
        return key
    }

    /// - Parameter handle: 0 for all devices.
    /// - Returns: what to wait for in `answers`; nil where the guest doesn't have the device.
    func quiesce(_ handle: UInt16) -> UInt64? {
        var key: UInt64?
        perform { state throws(HCDViolation) in
            guard state.phase == .open, handle == 0 || state.devices[handle]?.removal == HCDDevice.Removal.none else {
                return
            }
            let next = state.nextID()
            answers.expect(next)
            key = next
            state.setHold(.quiescing(next), of: handle)
            try state.say(HCDRecord(.quiesce, device: handle, id: next))
        }
        return key
    }

    func resume(_ handle: UInt16) {
        perform { state throws(HCDViolation) in
            guard state.phase == .open, handle == 0 || state.devices[handle] != nil else { return }
            state.setHold(.none, of: handle)
            try state.say(HCDRecord(.resume, device: handle, id: state.nextID()))
        }
    }
}

extension HCDSession.State {
    fileprivate mutating func nextID() -> UInt64 {
        lastID += 1
        return lastID
    }

    /// A resume of all ends the quiesce of each one.
    fileprivate mutating func setHold(_ hold: HCDDevice.Hold, of handle: UInt16) {
        guard handle == 0 else {
            devices[handle]?.hold = hold
            return
        }
        self.hold = hold
        guard hold == .none else { return }
        for handle in devices.handles { devices[handle]?.hold = .none }
    }

    fileprivate mutating func cancelAll(of handle: UInt16) -> [(VirtualDevice, URBToken)] {
        guard let device = devices[handle]?.device else { return [] }
        var cancels: [(VirtualDevice, URBToken)] = []
        for index in 0..<HCDLimits.urbs where slots[index].phase != .free && slots[index].device == handle {
            if let token = slots.cancel(index) { cancels.append((device, token)) }
        }
        return cancels
    }
}
