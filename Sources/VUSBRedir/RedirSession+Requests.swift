// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// What a peer asks for. All of it is on the loop's thread, in the order in which it was said.
extension RedirSession {
    /// - Returns: the rule that was broken; nil for none.
    func carryOut(_ message: consuming RedirMessage) -> String? {
        switch consume message {
        case .reset: reset()
        case .setConfiguration(let id, let value): setConfiguration(id, value)
        case .getConfiguration(let id):
            reader.parser?.sendConfiguration(id: id, .success, value: device.settings.configurationValue)
        case .setInterface(let id, let interface, let alternate): setInterface(id, interface, alternate)
        case .getInterface(let id, let interface): getInterface(id, interface)
        case .startStream(let wish): startStream(wish)
        case .stopStream(let kind, let endpoint, let streamID): stopStream(kind, endpoint, streamID)
        case .allocateStreams(let id, let endpoints, let count): allocateStreams(id, endpoints, count)
        case .freeStreams(let id, let endpoints):
            reader.parser?.sendBulkStreams(id: id, endpoints: endpoints, count: 0, .success)
        case .cancel(let id): cancel(id)
        case .reject: rejected("the guest's controller doesn't take it")
        case .filter(let filter): take(filter)
        case .disconnectAcknowledged: break
        case .transfer(let transfer, let buffer): return submit(transfer, buffer)
        case .isochronous(let endpoint, let length, let buffer): addPacket(endpoint, length, buffer)
        }
        return nil
    }

    private func take(_ filter: RedirFilter) {
        guard !filter.admits(device.descriptors, device.settings) else { return }
        rejected("the filter of the guest's usb-redir device has no rule that allows it")
    }

    // MARK: - Transfers

    private func submit(_ transfer: RedirTransfer, _ data: consuming TransferBuffer?) -> String? {
        if state.withLock({ $0.isInFlight(transfer.id) }) {
            return "transfer \(transfer.id), which is in flight already"
        }
        guard transfer.isSendable, let streamID = transfer.streamID, transfer.length <= RedirLimits.message else {
            return refuse(transfer, .invalid)
        }
        let slot = state.withLock { state -> (index: Int, serial: UInt64)? in
            guard let index = state.slots.take(.transfer(transfer), .submitting(isCancelled: false)) else { return nil }
            guard state.begin(transfer, index) else {
                state.slots.release(index)
                return nil
            }
            state.ids[transfer.id] = .slot(index)
            return (index, state.slots[index].serial)
        }
        guard let slot else { return refuse(transfer, .ioError) }
        var data = data.take()
        if transfer.length > 0, data == nil { data = buffer(transfer.length) }
        var urb = URB(
            endpoint: transfer.address, setup: transfer.setup, buffer: data, requestedLength: transfer.length,
            handler: self, context: UInt64(slot.index))
        urb.streamID = streamID
        submit(urb, slot: slot.index, slot.serial)
        return nil
    }

    private func refuse(_ transfer: RedirTransfer, _ status: RedirStatusCode) -> String? {
        let isTaken = state.withLock { $0.refuse(transfer, status) }
        return isTaken ? nil : "more than \(RedirLimits.waitingAnswers) transfers of an endpoint at once"
    }

    /// Memory for data that come in: more than the pool has is rare.
    private func buffer(_ count: Int) -> TransferBuffer? { device.pool.takeAny(count) }

    /// Gives the URB to the device; a cancel that came meanwhile is made up for.
    func submit(_ urb: consuming URB, slot: Int, _ serial: UInt64) {
        let token = device.submit(urb)
        let isCancelled = state.withLock { state -> Bool in
            guard state.slots[slot].serial == serial, case .submitting(let isCancelled) = state.slots[slot].phase else {
                return false
            }
            state.slots[slot].phase = .inFlight(token)
            return isCancelled || state.phase == .closed
        }
        if isCancelled { device.cancel(token) }
    }

    /// Answered at once, so that the guest's controller may use the id again; what becomes of the URB nobody is told.
    private func cancel(_ id: UInt64) {
        let token = state.withLock { $0.cancel(id) }
        if let token { device.cancel(token) }
    }

    // MARK: - Settings

    /// Tells of the interfaces and endpoints in force.
    func describe() { reader.parser?.sendDescription(RedirDescription(device)) }

    private func setConfiguration(_ id: UInt64, _ value: UInt8) {
        endStreams { _ in true }
        change(
            .setConfiguration(id: id),
            SetupPacket(
                bmRequestType: 0, bRequest: StandardRequest.setConfiguration, wValue: UInt16(value), wIndex: 0,
                wLength: 0))
    }

    private func setInterface(_ id: UInt64, _ interface: UInt8, _ alternate: UInt8) {
        let number = InterfaceNumber(rawValue: interface)
        let endpoints = device.settings.interfaces(of: device.descriptors)
            .filter { $0.bInterfaceNumber == number }.flatMap { $0.endpoints.map(\.bEndpointAddress) }
        endStreams { endpoints.contains($0.address) }
        change(
            .setInterface(id: id, interface: interface, alternate: alternate),
            SetupPacket(
                bmRequestType: 1, bRequest: StandardRequest.setInterface, wValue: UInt16(alternate),
                wIndex: UInt16(interface), wLength: 0))
    }

    private func getInterface(_ id: UInt64, _ interface: UInt8) {
        let alternate = device.settings.alternates[InterfaceNumber(rawValue: interface)]
        reader.parser?.sendInterface(
            id: id, alternate == nil ? .invalid : .success, interface: interface, alternate: alternate ?? 0)
    }

    /// Messages behind it wait until it's done.
    private func change(_ purpose: RedirSlot.Purpose, _ setup: SetupPacket) {
        let slot = state.withLock { state -> (Int, UInt64)? in
            guard let index = state.slots.take(purpose, .submitting(isCancelled: false)) else { return nil }
            state.changes += 1
            return (index, state.slots[index].serial)
        }
        guard let (index, serial) = slot else { return carryOut(Job(purpose, .noMemory)) }
        let urb = URB(
            endpoint: .control, setup: setup, buffer: nil, requestedLength: 0, handler: self, context: UInt64(index))
        submit(urb, slot: index, serial)
    }

    /// As a hub's port does it: no answer, and what is said behind it waits.
    private func reset() {
        endStreams { _ in true }
        state.withLock { $0.changes += 1 }
        Task {
            // A device that is gone is unplugged by its source; one that can't be reset just now shows it by itself.
            try? await device.reset()
            give(.resetEnded)
        }
    }

    private func allocateStreams(_ id: UInt64, _ endpoints: UInt32, _ count: UInt32) {
        let wanted = (0..<32).filter { endpoints & (1 << $0) != 0 }
        let addresses = wanted.map { EndpointAddress(rawValue: UInt8($0 & 15) | ($0 >= 16 ? 0x80 : 0)) }
        let isPossible =
            !addresses.isEmpty && count > 0
            && addresses.allSatisfy { (device.endpoint($0)?.maximumStreams ?? 0) >= count }
        reader.parser?.sendBulkStreams(
            id: id, endpoints: endpoints, count: count, isPossible ? .success : .invalid)
    }

    /// What is the loop's thread's to do.
    func carryOut(_ job: Job) {
        switch job {
        case .configured(let id, let status):
            describe()
            reader.parser?.sendConfiguration(
                id: id, RedirStatusCode(status), value: device.settings.configurationValue)
        case .interfaceSet(let id, let interface, let alternate, let status):
            describe()
            reader.parser?.sendInterface(
                id: id, RedirStatusCode(status), interface: interface, alternate: alternate)
        case .resetEnded: break
        case .streamEnded(let wish):
            reader.parser?.sendStream(wish.kind, endpoint: wish.endpoint, streamID: wish.streamID, .stall)
        case .disconnect:
            reader.parser?.sendDisconnect()
        }
        reader.parser?.flush()
        if job.endsChange { state.withLock { $0.changes = max(0, $0.changes - 1) } }
        if case .disconnect = job {
            flush()
            end(violation: nil)
        }
    }
}

extension RedirSession.Job {
    /// The end of a change of settings.
    init(_ purpose: RedirSlot.Purpose, _ status: URBStatus) {
        switch purpose {
        case .setConfiguration(let id): self = .configured(id: id, status)
        case .setInterface(let id, let interface, let alternate):
            self = .interfaceSet(id: id, interface: interface, alternate: alternate, status)
        case .transfer, .stream: self = .resetEnded
        }
    }

    fileprivate var endsChange: Bool {
        switch self {
        case .configured, .interfaceSet, .resetEnded: true
        case .streamEnded, .disconnect: false
        }
    }
}

extension RedirSession.State {
    /// Whether the peer may not use an id now. QEMU takes an interrupt OUT transfer for done as soon as it has sent it,
    /// and uses its id again.
    fileprivate func isInFlight(_ id: UInt64) -> Bool {
        switch ids[id] {
        case .slot(let slot):
            if case .transfer(let transfer) = slots[slot].purpose { return !transfer.isDoneWhenSent }
            return true
        case .refused: return true
        case nil: return false
        }
    }
}

extension RedirTransfer {
    fileprivate var isDoneWhenSent: Bool { kind == .interrupt && endpoint & 0x80 == 0 }

    /// Nil unless it's a control transfer.
    var setup: SetupPacket? {
        if case .control(let setup) = kind { setup } else { nil }
    }

    /// Whether a host could send it: only to endpoint 0 where it's a control transfer, with the data's direction as in
    /// the setup packet.
    var isSendable: Bool {
        guard let setup else { return true }
        let isIn = endpoint & 0x80 != 0
        return endpoint & 0x7f == 0 && (length == 0 || isIn == (setup.direction == .in))
    }

    /// Control transfers are the control endpoint's, whichever direction their data have.
    var address: EndpointAddress {
        if case .control = kind { .control } else { EndpointAddress(rawValue: endpoint) }
    }

    /// 0 for none; nil where there can't be such a stream.
    var streamID: UInt16? {
        guard case .bulk(let streamID) = kind else { return 0 }
        return UInt16(exactly: streamID)
    }
}
