// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// An endpoint that a caller may use now.
struct UsbfsTarget {
    let address: EndpointAddress
    let interface: UInt8
    let descriptor: EndpointDescriptor
}

/// What is a caller's to use, and the rest of the ioctls.
extension UsbfsSession {
    // MARK: - Checks, in usbfs's order

    /// U15, U16.
    func target(_ endpoint: UInt32) throws(UsbfsErrno) -> UsbfsTarget {
        guard endpoint & ~0x8f == 0 else { throw UsbfsErrno(EINVAL) }
        let address = EndpointAddress(rawValue: UInt8(endpoint))
        let interface = try checkInterface(UInt32(try interface(of: address)))
        guard let descriptor = device.endpoint(address) else { throw UsbfsErrno(ENOENT) }
        return UsbfsTarget(address: address, interface: interface, descriptor: descriptor)
    }

    private func interface(of address: EndpointAddress) throws(UsbfsErrno) -> UInt8 {
        let configuration = device.settings.configurationValue
        guard configuration != 0 else { throw UsbfsErrno(ESRCH) }
        guard let interface = node.routes.interface(of: address, configuration: configuration) else {
            throw UsbfsErrno(ENOENT)
        }
        return interface
    }

    /// An interface that is used without a claim is claimed.
    @discardableResult
    func checkInterface(_ interface: UInt32) throws(UsbfsErrno) -> UInt8 {
        guard device.settings.configurationValue != 0 else { throw UsbfsErrno(EHOSTUNREACH) }
        return try claim(interface)
    }

    private func claim(_ interface: UInt32) throws(UsbfsErrno) -> UInt8 {
        guard interface < UsbfsABI.interfaceLimit else { throw UsbfsErrno(EINVAL) }
        let number = UInt8(interface)
        if node.owner(of: number) == id { return number }
        if let allowed = state.withLock({ $0.allowedInterfaces }), interface >= 32 || allowed & (1 << interface) == 0 {
            throw UsbfsErrno(EACCES)
        }
        guard hasInterface(number) else { throw UsbfsErrno(ENOENT) }
        guard node.claim(number, for: id) else { throw UsbfsErrno(EBUSY) }
        return number
    }

    private func hasInterface(_ number: UInt8) -> Bool {
        let value = device.settings.configurationValue
        return device.descriptors.configuration(value: value)?.interfaces.contains {
            $0.bInterfaceNumber.rawValue == number
        } == true
    }

    /// Requests for an interface or endpoint are its owner's; vendors' are anybody's.
    func checkRecipient(_ setup: SetupPacket) throws(UsbfsErrno) {
        if setup.kind == .vendor || isPrinterID(setup) { return }
        let index = UInt32(setup.wIndex & 0xff)
        switch setup.recipient {
        case .endpoint:
            if index & 0x7f == 0 { return }
            guard index & ~0x8f == 0 else { throw UsbfsErrno(EINVAL) }
            try checkInterface(UInt32(try endpointInterface(EndpointAddress(rawValue: UInt8(index)))))
        case .interface: try checkInterface(index)
        case .device, .other: break
        }
    }

    /// Some programs name an endpoint without its direction; usbfs lets them.
    private func endpointInterface(_ address: EndpointAddress) throws(UsbfsErrno) -> UInt8 {
        do throws(UsbfsErrno) {
            return try interface(of: address)
        } catch {
            return try interface(of: EndpointAddress(rawValue: address.rawValue ^ 0x80))
        }
    }

    /// GET_DEVICE_ID of the printer class, which says how much ink there is, is anybody's, too.
    private func isPrinterID(_ setup: SetupPacket) -> Bool {
        guard setup.bmRequestType == 0xa1, setup.bRequest == 0 else { return false }
        let value = device.settings.configurationValue
        return device.descriptors.configuration(value: value)?.interfaces.contains {
            $0.bInterfaceNumber.rawValue == setup.wIndex >> 8 && $0.bAlternateSetting == setup.wIndex & 0xff
                && $0.bInterfaceClass == 7
        } == true
    }

    // MARK: - The rest of the ioctls

    func carryOutRest(_ request: UsbfsRequest, _ reply: consuming UsbfsReply) {
        switch request {
        case .resetEndpoint(let endpoint), .clearHalt(let endpoint): clearHalt(endpoint, reply)
        case .setInterface(let interface, let alternate): setInterface(interface, alternate: alternate, reply)
        case .setConfiguration(let value): setConfiguration(value, reply)
        case .reset: reset(reply)
        case .getDriver(let interface): getDriver(interface, reply)
        case .connectInfo: reply.fields(connectInfo)
        case .connectInfoEx(let length): reply.fields(connectInfoEx, count: length)
        case .getCapabilities:
            var fields = UsbfsFields(count: 4)
            fields.put(UsbfsABI.capabilities, at: 0)
            reply.fields(fields)
        case .allocateStreams(let count, let endpoints): allocateStreams(count, endpoints, reply)
        case .getSpeed: reply.result(Int32(UsbfsABI.speed(device.speed)))
        default:
            do throws(UsbfsErrno) {
                if let ending = try carryOutClaim(request) {
                    ending.session.answer(reply, after: ending)
                } else {
                    reply.result(0)
                }
            } catch {
                reply.error(error.number)
            }
        }
    }

    /// - Returns: what has to end before it's answered.
    private func carryOutClaim(_ request: UsbfsRequest) throws(UsbfsErrno) -> UsbfsEnding? {
        switch request {
        case .claim(let interface): _ = try claim(interface)
        case .release(let interface): return try release(interface)
        case .disconnectClaim(let interface, let flags, let namesUsbfs):
            return try disconnectClaim(interface, flags, namesUsbfs)
        case .ioctl(let interface, let code): return try driverControl(interface, code)
        case .dropPrivileges(let mask):
            state.withLock { $0.allowedInterfaces = ($0.allowedInterfaces ?? .max) & mask }
        case .disconnectSignal(let signal): if signal != 0 { throw UsbfsErrno(EINVAL) }
        case .freeStreams(let endpoints): try freeStreams(endpoints)
        // Only hubs have ports.
        case .port: throw UsbfsErrno(EINVAL)
        default: throw UsbfsErrno(ENOTTY)
        }
        return nil
    }

    private func release(_ interface: UInt32) throws(UsbfsErrno) -> UsbfsEnding {
        guard interface < UsbfsABI.interfaceLimit else { throw UsbfsErrno(EINVAL) }
        guard hasInterface(UInt8(interface)) else { throw UsbfsErrno(ENOENT) }
        guard node.release(UInt8(interface), of: id) else { throw UsbfsErrno(EINVAL) }
        // Linux unbinds usbfs from it, which shuts its endpoints down.
        return cancel(on: UInt8(interface), .shutdown)
    }

    private func getDriver(_ interface: UInt32, _ reply: consuming UsbfsReply) {
        guard interface < UsbfsABI.interfaceLimit, node.owner(of: UInt8(interface)) != 0 else {
            return reply.error(ENODATA)
        }
        var fields = UsbfsFields(count: UsbfsABI.driverSize)
        fields.put(interface, at: 0)
        fields.put(text: "usbfs", at: 4)
        reply.fields(fields)
    }

    private func disconnectClaim(
        _ interface: UInt32, _ flags: UInt32, _ namesUsbfs: Bool
    ) throws(UsbfsErrno) -> UsbfsEnding? {
        guard interface < UsbfsABI.interfaceLimit, hasInterface(UInt8(interface)) else { throw UsbfsErrno(EINVAL) }
        var ending: UsbfsEnding?
        // usbfs is the only driver that there can be.
        if node.owner(of: UInt8(interface)) != 0 {
            if state.withLock({ $0.allowedInterfaces != nil }) { throw UsbfsErrno(EACCES) }
            if flags & 1 != 0, !namesUsbfs { throw UsbfsErrno(EBUSY) }
            if flags & 2 != 0, namesUsbfs { throw UsbfsErrno(EBUSY) }
            ending = node.takeAway(UInt8(interface))
        }
        _ = try claim(interface)
        return ending
    }

    private func driverControl(_ interface: Int32, _ code: UInt32) throws(UsbfsErrno) -> UsbfsEnding? {
        if state.withLock({ $0.allowedInterfaces != nil }) { throw UsbfsErrno(EACCES) }
        guard device.settings.configurationValue != 0 else { throw UsbfsErrno(EHOSTUNREACH) }
        guard let number = UInt8(exactly: interface), number < UsbfsABI.interfaceLimit, hasInterface(number) else {
            throw UsbfsErrno(EINVAL)
        }
        switch code {
        // USBDEVFS_DISCONNECT
        case 0x5516:
            guard let ending = node.takeAway(number) else { throw UsbfsErrno(ENODATA) }
            return ending
        // USBDEVFS_CONNECT
        case 0x5517:
            guard node.owner(of: number) == 0 else { throw UsbfsErrno(EBUSY) }
            return nil
        default: throw UsbfsErrno(ENOTTY)
        }
    }

    private var connectInfo: UsbfsFields {
        var fields = UsbfsFields(count: UsbfsABI.connectInfoSize)
        fields.put(UInt32(truncatingIfNeeded: node.identity.deviceNumber), at: 0)
        fields.put(byte: device.speed == .low ? 1 : 0, at: 4)
        return fields
    }

    private var connectInfoEx: UsbfsFields {
        var fields = UsbfsFields(count: UsbfsABI.connectInfoExSize)
        fields.put(UInt32(UsbfsABI.connectInfoExSize), at: 0)
        fields.put(UInt32(truncatingIfNeeded: node.identity.busNumber), at: 4)
        fields.put(UInt32(truncatingIfNeeded: node.identity.deviceNumber), at: 8)
        fields.put(UsbfsABI.speed(device.speed), at: 12)
        fields.put(byte: UInt8(truncatingIfNeeded: node.identity.ports.count), at: 16)
        for (index, port) in node.identity.ports.prefix(7).enumerated() { fields.put(byte: port, at: 17 + index) }
        return fields
    }

    // MARK: - Streams

    /// The endpoints of one interface.
    private func streamTargets(_ endpoints: [UInt8]) throws(UsbfsErrno) -> [UsbfsTarget] {
        var targets: [UsbfsTarget] = []
        for endpoint in endpoints {
            let address = EndpointAddress(rawValue: endpoint)
            guard endpoint & ~0x8f == 0, let descriptor = device.endpoint(address) else { throw UsbfsErrno(EINVAL) }
            let interface = try interface(of: address)
            if let first = targets.first {
                guard first.interface == interface else { throw UsbfsErrno(EINVAL) }
            } else {
                try checkInterface(UInt32(interface))
            }
            targets.append(UsbfsTarget(address: address, interface: interface, descriptor: descriptor))
        }
        return targets
    }

    /// Only noted: a source makes what it needs when the first stream is used.
    func allocateStreams(_ count: UInt32, _ endpoints: [UInt8], _ reply: consuming UsbfsReply) {
        do throws(UsbfsErrno) {
            guard count >= 2, count <= 65_536 else { throw UsbfsErrno(EINVAL) }
            let targets = try streamTargets(endpoints)
            if let interface = targets.first?.interface { cancel(on: interface, .kill) }
            // 0 and two more ids are reserved (USB 3.2, 8.12.1.4).
            let most = min(count, targets.map(\.descriptor.maximumStreams).min() ?? 0, 65_533)
            let had = state.withLock { state in targets.contains { state.streams[$0.address.rawValue] != nil } }
            guard device.speed.isSuper, most > 0, !had else { throw UsbfsErrno(EINVAL) }
            state.withLock { state in
                for target in targets { state.streams[target.address.rawValue] = most }
            }
            reply.result(Int32(most))
        } catch {
            reply.error(error.number)
        }
    }

    private func freeStreams(_ endpoints: [UInt8]) throws(UsbfsErrno) {
        let targets = try streamTargets(endpoints)
        if let interface = targets.first?.interface { cancel(on: interface, .kill) }
        let had = state.withLock { state in targets.allSatisfy { state.streams[$0.address.rawValue] != nil } }
        guard had else { throw UsbfsErrno(EINVAL) }
        state.withLock { state in
            for target in targets { state.streams[target.address.rawValue] = nil }
        }
    }
}
