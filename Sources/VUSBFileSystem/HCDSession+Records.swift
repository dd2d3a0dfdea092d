// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Synchronization
internal import VUSBCore

/// Records of the guest that have no payload.
extension HCDSession {
    func carryOut(_ record: HCDRecord, _ kind: HCDRecord.Kind) throws(HCDViolation) {
        switch kind {
        case .cancel: try cancel(record)
        case .removed: try removed(record.device)
        case .reset: try reset(record)
        case .quiesced: try quiesced(record)
        case .resumed: try change { state throws(HCDViolation) in try state.checkAnswer(record) }
        case .wait: setWait(record)
        case .ping: try ping(record.id)
        case .bye: try change { state throws(HCDViolation) in state.phase = .leaving }
        case .hello, .submit, .added, .remove, .complete, .resetDone, .quiesce, .resume, .pong:
            throw HCDViolation("a record of type \(record.type), which only the host sends")
        }
    }

    /// Changes the state and tells the reader; nothing happens to a session that is over.
    private func change(_ body: (inout State) throws(HCDViolation) -> Void) throws(HCDViolation) {
        let result = state.withLock { state -> Result<Effects, HCDViolation> in
            guard !state.isOver else { return .success(Effects()) }
            do throws(HCDViolation) {
                try body(&state)
                return .success(Effects(reader: state.reader))
            } catch {
                return .failure(error)
            }
        }
        try result.get().carryOut()
    }

    /// As `change`, for who isn't a write: a rule that is broken breaks off from here.
    func perform(_ body: (inout State) throws(HCDViolation) -> Void) {
        do {
            try change(body)
        } catch {
            breakOff(error)
        }
    }

    /// Rows C1 and C2.
    private func cancel(_ record: HCDRecord) throws(HCDViolation) {
        let result = state.withLock { state -> Result<Effects, HCDViolation> in
            do throws(HCDViolation) {
                let device = try state.known(record.device).device
                guard record.slot < HCDLimits.urbs else {
                    throw HCDViolation("a cancel of slot \(record.slot), beyond the hello's urbs")
                }
                var effects = Effects()
                if state.slots[record.slot].id == record.id, state.slots[record.slot].device == record.device,
                    let token = state.slots.cancel(record.slot)
                {
                    effects.cancels.append((device, token))
                }
                return .success(effects)
            } catch {
                return .failure(error)
            }
        }
        try result.get().carryOut()
    }

    private func setWait(_ record: HCDRecord) {
        let wait = min(record.waitTime, HCDLimits.wait)
        let (isFirst, reader) = state.withLock { state in
            state.wait = wait
            let isOneAtATime = record.waitFlags & UInt32(VUSB_WAIT_ONE_AT_A_TIME) != 0
            defer { state.isOneAtATime = isOneAtATime }
            return (isOneAtATime && !state.isOneAtATime, state.reader)
        }
        if isFirst { channel?.servesOneAtATime(self) }
        reader?.waitChanged(wait)
    }

    private func ping(_ id: UInt64) throws(HCDViolation) {
        try change { state throws(HCDViolation) in
            guard state.pongCount < HCDLimits.pings else { throw HCDViolation("pings whose answers aren't read") }
            state.pongCount += 1
            try state.say(HCDRecord(.pong, id: id))
        }
    }

    private func quiesced(_ record: HCDRecord) throws(HCDViolation) {
        try change { state throws(HCDViolation) in
            try state.checkAnswer(record)
            if record.device == 0 {
                if state.hold == .quiescing(record.id) { state.hold = .quiet }
            } else if state.devices[record.device]?.hold == .quiescing(record.id) {
                state.devices[record.device]?.hold = .quiet
            }
        }
        answers.answer(record.id)
    }

    /// Row C12.
    private func removed(_ handle: UInt16) throws(HCDViolation) {
        var waiters: [UInt64] = []
        try change { state throws(HCDViolation) in
            let device = try state.known(handle)
            guard device.removal != .none else { throw HCDViolation("device \(handle) was let go of, unasked") }
            guard device.urbs == 0 else {
                throw HCDViolation("device \(handle) was let go of with \(device.urbs) URBs in flight")
            }
            waiters = device.waiters
            state.devices[handle] = nil
        }
        for waiter in waiters { answers.answer(waiter) }
        channel?.letGo(handle, by: self)
    }

    // MARK: - Reset

    /// Rows C10 and C11.
    private func reset(_ record: HCDRecord) throws(HCDViolation) {
        var device: VirtualDevice?
        try change { state throws(HCDViolation) in
            let entry = try state.known(record.device)
            guard !entry.isResetting else { throw HCDViolation("a second reset of device \(record.device)") }
            guard entry.removal != .now else {
                return try state.sayResetDone(record, .noDevice)
            }
            state.devices[record.device]?.isResetting = true
            device = entry.device
        }
        guard let device else { return }
        Task {
            let status = await Self.reset(device)
            self.perform { state throws(HCDViolation) in
                guard state.devices[record.device] != nil else { return }
                state.devices[record.device]?.isResetting = false
                try state.sayResetDone(record, status)
            }
        }
    }

    private static func reset(_ device: VirtualDevice) async -> URBStatus {
        do {
            try await device.reset()
            return .success
        } catch {
            return switch error.code {
            case .gone: .noDevice
            case .busy: .busy
            case .timedOut: .timedOut
            default: .io
            }
        }
    }
}

extension HCDSession.State {
    fileprivate mutating func sayResetDone(_ record: HCDRecord, _ status: URBStatus) throws(HCDViolation) {
        var answer = HCDRecord(.resetDone, device: record.device, id: record.id)
        answer.resultStatus = status.rawValue
        try say(answer)
    }

    /// An answer to what was never asked breaks the rules; a late one doesn't.
    fileprivate func checkAnswer(_ record: HCDRecord) throws(HCDViolation) {
        if record.device != 0 { _ = try known(record.device) }
        guard record.id > 0, record.id <= lastID else { throw HCDViolation("an answer to nothing that was asked") }
    }
}
