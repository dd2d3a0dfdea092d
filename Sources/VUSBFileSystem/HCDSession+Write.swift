// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// Writes: a stream of records, which a write may cut anywhere. Nothing of it is believed.
extension HCDSession {
    /// Takes all of a write. One at a time: the bytes of two at once would have no order.
    /// - Returns: 0, or a positive errno.
    func write(_ data: borrowing WriteData) -> Int32 {
        guard var input = state.withLock({ $0.input.take() }) else {
            return errno(of: state.withLock { $0.phase }, else: EBUSY)
        }
        do {
            try feed(&input, data)
        } catch {
            breakOff(error)
        }
        var kept: HCDInput? = consume input
        let phase = state.withLock { state in
            if !state.isOver { state.input = kept.take() }
            return state.phase
        }
        return errno(of: phase, else: 0)
    }

    private func errno(of phase: Phase, else other: Int32) -> Int32 {
        switch phase {
        case .broken: EPROTO
        case .closed: ENODEV
        case .greeting, .open, .leaving: other
        }
    }

    private func feed(_ input: inout HCDInput, _ data: borrowing WriteData) throws(HCDViolation) {
        var position = 0
        while position < data.count {
            switch input.phase {
            case .head:
                position += input.takeHead(data, at: position)
                if case .payload = input.phase { position += try begin(&input, data, at: position) }
            case .payload: position += try takePayload(&input, data, at: position)
            case .padding: position += input.takePadding(data.count - position)
            }
        }
    }

    /// A record's fixed part is there. Returns the bytes of payload that were taken.
    private func begin(
        _ input: inout HCDInput,
        _ data: borrowing WriteData,
        at position: Int
    ) throws(HCDViolation) -> Int {
        let record = input.record
        guard record.payloadSize >= 0 else { throw HCDViolation("a record of \(record.size) bytes") }
        let phase = state.withLock { $0.phase }
        guard phase != .leaving else { throw HCDViolation("a record after the goodbye") }
        guard let kind = record.kind else { throw HCDViolation("a record of the unknown type \(record.type)") }
        guard (phase == .greeting) == (kind == .hello) else {
            throw HCDViolation(phase == .greeting ? "a record before the hello" : "a second hello")
        }
        switch kind {
        case .hello:
            try check(record.hello, payload: record.payloadSize)
            input.expectPayload()
        case .submit: input.expectPayload(try admit(record))
        default:
            guard record.payloadSize == 0 else { throw HCDViolation("a record of type \(record.type) with a payload") }
            try carryOut(record, kind)
            input.expectPayload()
        }
        return record.payloadSize == 0 ? try takePayload(&input, data, at: position) : 0
    }

    private func takePayload(
        _ input: inout HCDInput,
        _ data: borrowing WriteData,
        at position: Int
    ) throws(HCDViolation) -> Int {
        let (taken, isWhole) = input.takePayload(data, at: position)
        guard isWhole else { return taken }
        if input.record.kind == .hello {
            greet(input.record.hello, peer: input.peerName)
        } else if let assembly = input.takeAssembly() {
            try submit(assembly)
        }
        return taken
    }

    // MARK: - Hello

    private func check(_ hello: HCDRecord.Hello, payload: Int) throws(HCDViolation) {
        guard hello.magic == UInt32(VUSB_ABI_MAGIC) else { throw HCDViolation("a hello without the magic number") }
        guard hello.version > 0 else { throw HCDViolation("a hello of version 0") }
        guard payload <= HCDLimits.name else { throw HCDViolation("a hello with a name of \(payload) bytes") }
    }

    private func greet(_ hello: HCDRecord.Hello, peer: String) {
        perform { state throws(HCDViolation) in
            guard state.phase == .greeting else { return }
            state.phase = .open
            state.peer = peer
            state.ports = Int(hello.ports)
            state.wait = min(hello.wait, HCDLimits.wait)
            if hello.maxTransfer > 0 { state.maxTransfer = min(Int(hello.maxTransfer), HCDLimits.transfer) }
            var record = HCDRecord(.hello)
            record.hello = HCDRecord.Hello(
                features: UInt32(VUSB_FEATURE_STREAMS | VUSB_FEATURE_ISO),
                urbs: UInt32(HCDLimits.urbs),
                bytes: UInt32(HCDLimits.bytes),
                maxTransfer: UInt32(HCDLimits.transfer),
                wait: HCDLimits.wait
            )
            try state.say(record)
        }
        channel?.greeted(self, peer: peer)
    }

    // MARK: - Submit

    /// Checks a submit and takes its slot and credit (rows C3, C4, C5, C14).
    private func admit(_ record: HCDRecord) throws(HCDViolation) -> HCDAssembly {
        let submit = record.submit
        guard submit.transfer <= HCDRecord.Transfer.last else {
            throw HCDViolation("a submit of the unknown transfer type \(submit.transfer)")
        }
        guard Int(submit.packets) <= HCDLimits.packets,
            submit.packets == 0 || submit.transfer == HCDRecord.Transfer.isochronous
        else { throw HCDViolation("a submit with \(submit.packets) packets") }
        let result = state.withLock { state -> Result<HCDAssembly.Permit, HCDViolation> in
            guard Int(submit.length) <= state.maxTransfer else {
                return .failure(HCDViolation("a submit of \(submit.length) bytes"))
            }
            guard record.payloadSize == submit.payloadSize else {
                return .failure(HCDViolation("a submit whose size isn't that of its parts"))
            }
            do throws(HCDViolation) {
                return .success(try state.admit(record))
            } catch {
                return .failure(error)
            }
        }
        return HCDAssembly(record, try result.get())
    }

    private func submit(_ assembly: consuming HCDAssembly) throws(HCDViolation) {
        let slot = assembly.permit.slot
        let device = assembly.permit.device
        let whole = try assembly.whole(handler: self)
        let refusal = whole.refusal
        let verdict = state.withLock { state -> URBStatus? in
            guard !state.isOver else { return .noDevice }
            // The device may have gone while the record came in.
            let isGone = state.devices[state.slots[slot].device]?.removal == .now
            if refusal == nil, !isGone { state.slots[slot].phase = .submitting(isCancelled: false) }
            return isGone ? .noDevice : refusal
        }
        if let verdict { return finish(whole.urb, verdict) }
        let token = device.submit(whole.urb)
        let isCancelled = state.withLock { state in
            guard case .submitting(let isCancelled) = state.slots[slot].phase else { return false }
            state.slots[slot].phase = .inFlight(token)
            return isCancelled
        }
        if isCancelled { device.cancel(token) }
    }
}

extension HCDSession.State {
    fileprivate mutating func admit(_ record: HCDRecord) throws(HCDViolation) -> HCDAssembly.Permit {
        let handle = record.device
        let entry = try known(handle)
        if entry.removal == .none, entry.hold == .quiet || hold == .quiet {
            throw HCDViolation("a submit for device \(handle), which is quiet")
        }
        try slots.take(record.id, device: handle, bytes: Int(record.submit.length))
        devices.addURBs(1, to: handle)
        return HCDAssembly.Permit(
            slot: record.slot,
            device: entry.device,
            refusal: entry.removal == .now ? .noDevice : nil
        )
    }

    /// The device with that handle (row C4).
    func known(_ handle: UInt16) throws(HCDViolation) -> HCDDevice {
        guard let device = devices[handle] else {
            let what = handle == 0 ? "is none" : handle > lastHandle ? "never was" : "is gone"
            throw HCDViolation("a record for device \(handle), which \(what)")
        }
        return device
    }

    /// Puts a record into the outbox.
    mutating func say(_ record: HCDRecord) throws(HCDViolation) {
        guard recordCount < HCDLimits.controlRecords else { throw HCDViolation("records that aren't read") }
        outbox.append(.record(record))
        recordCount += 1
    }
}
