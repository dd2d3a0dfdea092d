// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// Calls that wait for the device, without a thread that does.
extension UsbfsSession {
    func control(
        _ setup: SetupPacket, timeout: UInt32, _ input: Span<UInt8>, _ data: Int, _ reply: consuming UsbfsReply
    ) {
        do throws(UsbfsErrno) {
            try checkRecipient(setup)
            let isIn = setup.direction == .in
            let buffer = isIn ? nil : try copy(input, from: data, count: Int(setup.wLength))
            call(
                UsbfsCallTarget(
                    endpoint: .control, setup: setup, length: Int(setup.wLength), isIn: isIn, timeout: timeout),
                buffer, .data, reply)
        } catch {
            reply.error(error.number)
        }
    }

    func bulk(
        _ endpoint: UInt32, length: UInt32, timeout: UInt32, _ input: Span<UInt8>, _ data: Int,
        _ reply: consuming UsbfsReply
    ) {
        do throws(UsbfsErrno) {
            let target = try target(endpoint)
            let type = target.descriptor.transferType
            guard type == .bulk || type == .interrupt else { throw UsbfsErrno(EINVAL) }
            let isIn = target.address.direction == .in
            let buffer = isIn ? nil : try copy(input, from: data, count: Int(length))
            call(
                UsbfsCallTarget(
                    endpoint: target.address, interface: target.interface, length: Int(length), isIn: isIn,
                    timeout: timeout),
                buffer, .data, reply)
        } catch {
            reply.error(error.number)
        }
    }

    /// A request of endpoint 0 without data, which is done before the caller goes on.
    func command(_ setup: SetupPacket, _ reply: consuming UsbfsReply) {
        call(UsbfsCallTarget(endpoint: .control, setup: setup, length: 0, isIn: false, timeout: 0), nil, .status, reply)
    }

    private func call(
        _ target: UsbfsCallTarget, _ buffer: consuming TransferBuffer?, _ kind: UsbfsCall,
        _ reply: consuming UsbfsReply
    ) {
        // Its memory is the device's to count; what waits for it is bounded by the callers' threads.
        let wait = UsbfsWait(reply.request, .transfer(-1))
        if target.timeout > 0 { wait.deadline = .now + .milliseconds(Int(target.timeout)) }
        var buffer: TransferBuffer? = consume buffer
        let transfer = state.withLock { state in
            let transfer = state.makeTransfer()
            transfer.take(target)
            transfer.buffer = buffer.take()
            transfer.purpose = .call(wait, kind)
            // Not pending for others before its reply is there.
            transfer.phase = .queued
            wait.kind = .transfer(transfer.index)
            return transfer
        }
        let isKept = park(reply, wait) { state, wait in
            if state.phase != .open { return .error(ENODEV) }
            state.queue(transfer)
            return nil
        }
        guard isKept else { return drop(transfer) }
        if let deadline = wait.deadline { node.clock.wake(self, at: deadline) }
        pump()
    }

    /// Of a call that was answered before it began.
    private func drop(_ transfer: UsbfsTransfer) {
        state.withLock { state in
            state.pendingTransfers -= 1
            transfer.phase = .completed
        }
        finish(transfer)
    }

    /// U18.
    func reset(_ reply: consuming UsbfsReply) {
        if state.withLock({ $0.allowedInterfaces != nil }),
            node.claimedInterfaces.contains(where: { $0.session != id })
        {
            return reply.error(EACCES)
        }
        for (interface, _) in node.claimedInterfaces { _ = node.takeAway(interface) }
        let wait = UsbfsWait(reply.request, .reset)
        guard park(reply, wait) else { return }
        // Not the data path: a reset takes its time, and only the control plane's way to ask for it knows when.
        Task { [self] in
            var errno: Int32 = 0
            do throws(USBError) { try await device.reset() } catch { errno = Self.errno(error) }
            var effects = UsbfsEffects()
            state.withLock { state in state.answer(wait, errno == 0 ? .result(0) : .error(errno), &effects) }
            perform(effects)
        }
    }

    private static func errno(_ error: USBError) -> Int32 {
        switch error.code {
        case .gone, .notFound: ENODEV
        case .busy: EBUSY
        case .accessDenied: EACCES
        case .timedOut: ETIMEDOUT
        default: EIO
        }
    }

    func setInterface(_ interface: UInt32, alternate: UInt32, _ reply: consuming UsbfsReply) {
        do throws(UsbfsErrno) {
            let number = try checkInterface(interface)
            let settings = device.settings
            guard alternate < 256, let alternate = UInt8(exactly: alternate),
                device.descriptors.configuration(value: settings.configurationValue)?.hasSetting(
                    InterfaceNumber(rawValue: number), alternate: alternate) == true
            else { throw UsbfsErrno(EINVAL) }
            cancel(on: number, .kill)
            command(
                SetupPacket(
                    bmRequestType: 0x01, bRequest: StandardRequest.setInterface, wValue: UInt16(alternate),
                    wIndex: UInt16(number), wLength: 0), reply)
        } catch {
            reply.error(error.number)
        }
    }

    func setConfiguration(_ value: Int32, _ reply: consuming UsbfsReply) {
        guard node.claimedInterfaces.isEmpty else { return reply.error(EBUSY) }
        // -1 unconfigures, as 0 does.
        guard let value = value == -1 ? 0 : UInt8(exactly: value),
            value == 0 || device.descriptors.configuration(value: value) != nil
        else { return reply.error(EINVAL) }
        command(
            SetupPacket(
                bmRequestType: 0, bRequest: StandardRequest.setConfiguration, wValue: UInt16(value), wIndex: 0,
                wLength: 0), reply)
    }

    func clearHalt(_ endpoint: UInt32, _ reply: consuming UsbfsReply) {
        do throws(UsbfsErrno) {
            let target = try target(endpoint)
            command(
                SetupPacket(
                    bmRequestType: 0x02, bRequest: StandardRequest.clearFeature, wValue: StandardFeature.endpointHalt,
                    wIndex: UInt16(target.address.rawValue), wLength: 0), reply)
        } catch {
            reply.error(error.number)
        }
    }
}

/// What a call asks of the device.
struct UsbfsCallTarget {
    var endpoint: EndpointAddress
    var setup: SetupPacket?
    var interface: UInt8?
    var length: Int
    var isIn: Bool
    /// In milliseconds; 0 for none.
    var timeout: UInt32

    init(
        endpoint: EndpointAddress, setup: SetupPacket? = nil, interface: UInt8? = nil, length: Int, isIn: Bool,
        timeout: UInt32
    ) {
        self.endpoint = endpoint
        self.setup = setup
        self.interface = interface
        self.length = length
        self.isIn = isIn
        self.timeout = timeout
    }
}

extension UsbfsTransfer {
    fileprivate func take(_ target: UsbfsCallTarget) {
        endpoint = target.endpoint
        setup = target.setup
        interface = target.interface
        length = target.length
        isIn = target.isIn
    }
}
