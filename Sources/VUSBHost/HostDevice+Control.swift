// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import VUSBCore

/// What blocks; all of it on the device's own thread.
extension HostDevice {
    /// - Parameter setting: of the endpoint, when it was submitted.
    func carryOut(_ urb: consuming URB, setting: UInt32) {
        if case .transfer = urb.operation {
            transfer(urb, setting)
            waiting.subtract(1, ordering: .releasing)
        } else {
            let status = perform(urb.operation)
            // First: what its submitter goes on with needn't come this way.
            waiting.subtract(1, ordering: .releasing)
            urb.complete(status)
        }
    }

    private func perform(_ operation: URB.Operation) -> URBStatus {
        guard let port = control.withLock({ $0.port }) else { return .noDevice }
        return switch operation {
        case .setConfiguration(let value): setConfiguration(value, port)
        case .setInterface(let interface, let alternate): setInterface(interface, alternate, port)
        case .clearHalt(let endpoint): LibUSBCode.status(port.clearHalt(endpoint.rawValue))
        case .transfer: .notSupported
        }
    }

    private func transfer(_ urb: consuming URB, _ setting: UInt32) {
        guard let port = control.withLock({ $0.port }) else { return urb.complete(.noDevice) }
        guard settingCount(urb.endpoint) == setting else { return urb.complete(.shutdown) }
        if let refusal = makeStreams(urb.streamID, urb.endpoint, port) { return urb.complete(refusal) }
        table.submit(urb)
    }

    /// usbfs lets go of nothing by itself: interfaces are released, the configuration is set, those of the new one are
    /// claimed. The kernel's drivers look at them in between.
    private func setConfiguration(_ value: UInt8, _ port: any HandlePort) -> URBStatus {
        let data = TransferTable.dataEndpoints
        guard table.close(data, refusing: .shutdown, ending: .shutdown, limit: limits.cancel) else {
            table.open(data)
            return .timedOut
        }
        defer { table.open(data) }
        var (claim, before) = control.withLock { ($0.claim, $0.configurationValue) }
        claim.releaseAll(through: port)
        let code = port.setConfiguration(value == 0 ? -1 : Int32(value))
        let now = code == 0 ? value : before
        let status = claimInterfaces(of: now, &claim, port)
        let new = claim
        control.withLock { control in
            control.claim = new
            if code == 0 {
                control.configurationValue = value
                control.alternates = [:]
                control.setAnew(data)
            }
        }
        return code == 0 ? status : LibUSBCode.status(code)
    }

    private func claimInterfaces(of configuration: UInt8, _ claim: inout HostClaim, _ port: any HandlePort) -> URBStatus
    {
        do {
            try claim.take(descriptors.interfaceNumbers(configuration), through: port)
            return .success
        } catch {
            logger.error(
                "device \(id): interface \(error.interface) can't be claimed: \(LibUSBCode.name(error.code))"
            )
            return error.code == LibUSBCode.noDevice ? .noDevice : .busy
        }
    }

    private func setInterface(
        _ interface: InterfaceNumber,
        _ alternate: UInt8,
        _ port: any HandlePort
    ) -> URBStatus {
        let value = control.withLock { $0.configurationValue }
        let endpoints = descriptors.endpointMask(of: interface, in: value)
        // usbfs would throw away what is in flight there without ever giving it back.
        guard table.close(endpoints, refusing: .shutdown, ending: .shutdown, limit: limits.cancel) else {
            table.open(endpoints)
            return .timedOut
        }
        defer { table.open(endpoints) }
        let code = port.setAlternate(interface.rawValue, alternate)
        guard code == 0 else { return code == LibUSBCode.notFound ? .stall : LibUSBCode.status(code) }
        control.withLock { control in
            control.alternates[interface] = alternate
            control.setAnew(endpoints)
        }
        return .success
    }

    /// Nil where the endpoint has that stream. All that its interface can have are made at once: usbfs can't add any
    /// later, and ends whatever is in flight at the interface when it makes some.
    private func makeStreams(
        _ stream: UInt16,
        _ endpoint: EndpointAddress,
        _ port: any HandlePort
    ) -> URBStatus? {
        guard stream != 0 else { return nil }
        let (had, value, alternates) = control.withLock {
            ($0.streams[endpoint.index], $0.configurationValue, $0.alternates)
        }
        if had >= stream { return nil }
        let settings = ActiveSettings(descriptors, configurationValue: value, alternates: alternates)
        let all = descriptors.endpoints(ofInterfaceWith: endpoint, in: settings)
        let streaming = all.filter { $0.maximumStreams > 0 }
        guard had == 0, streaming.contains(where: { $0.bEndpointAddress == endpoint }) else { return .invalid }
        // A driver that is about to use streams has nothing in flight there; of one that does, it ends with an error.
        let mask: UInt32 = all.reduce(0) { $0 | 1 << UInt32($1.bEndpointAddress.index) }
        defer { table.open(mask) }
        guard table.close(mask, refusing: .shutdown, ending: .shutdown, limit: limits.cancel) else {
            return .timedOut
        }
        let wanted = min(streaming.map(\.maximumStreams).min() ?? 0, 65533)
        let count = port.allocateStreams(wanted, streaming.map(\.bEndpointAddress.rawValue))
        guard count > 0 else { return LibUSBCode.status(count) }
        control.withLock { control in
            for endpoint in streaming { control.streams[endpoint.bEndpointAddress.index] = UInt16(clamping: count) }
        }
        return count >= Int32(stream) ? nil : .invalid
    }

    /// - Throws: `gone` where it came back as another device or not at all; `timedOut`; `io`.
    func resetNow() throws(USBError) {
        let all = TransferTable.allEndpoints
        guard let port = control.withLock({ $0.port }) else { throw USBError(.gone, "device \(id) is closed") }
        guard table.close(all, refusing: .shutdown, ending: .shutdown, limit: limits.cancel) else {
            table.open(all)
            throw USBError(.timedOut, "device \(id) doesn't end its transfers, so it isn't reset", remedy: "unplug it")
        }
        let code = port.reset()
        if code == LibUSBCode.notFound || code == LibUSBCode.noDevice {
            // The endpoints stay closed: there is nothing behind them any more.
            throw USBError(.gone, "device \(id) is another one after its reset")
        }
        defer { table.open(all) }
        guard code == 0 else { throw LibUSBCode.error(code, "device \(id) can't be reset", remedy: "unplug it") }
        try restoreAlternates(port)
    }

    /// libusb lets go of the interfaces for a reset, and the kernel puts them to alternate setting 0 then.
    private func restoreAlternates(_ port: any HandlePort) throws(USBError) {
        let alternates = control.withLock { control in
            control.streams = control.streams.map { _ in 0 }
            return control.alternates
        }
        for (interface, alternate) in alternates.sorted(by: { $0.key.rawValue < $1.key.rawValue }) where alternate != 0
        {
            let code = port.setAlternate(interface.rawValue, alternate)
            guard code == 0 else {
                throw LibUSBCode.error(code, "device \(id): interface \(interface) lost its setting \(alternate)")
            }
        }
    }
}

extension HostDevice.Control {
    /// These endpoints, a bit an index, are others now.
    fileprivate mutating func setAnew(_ endpoints: UInt32) {
        for index in 0..<32 where endpoints & (1 << UInt32(index)) != 0 {
            streams[index] = 0
            settings[index] &+= 1
        }
    }
}

extension Descriptors {
    /// Of a configuration, each once.
    func interfaceNumbers(_ configuration: UInt8) -> [UInt8] {
        Set((self.configuration(value: configuration)?.interfaces ?? []).map(\.bInterfaceNumber.rawValue)).sorted()
    }

    /// The endpoints that an interface has in any of its settings, a bit an index.
    func endpointMask(of interface: InterfaceNumber, in configuration: UInt8) -> UInt32 {
        let settings = self.configuration(value: configuration)?.interfaces ?? []
        return settings.filter { $0.bInterfaceNumber == interface }.flatMap(\.endpoints).reduce(0) {
            $0 | 1 << UInt32($1.bEndpointAddress.index)
        }
    }

    /// Those in force of the interface that has this one.
    func endpoints(ofInterfaceWith endpoint: EndpointAddress, in settings: ActiveSettings) -> [EndpointDescriptor] {
        let interfaces = configuration(value: settings.configurationValue)?.interfaces ?? []
        return interfaces.first { setting in
            settings.alternates[setting.bInterfaceNumber] == setting.bAlternateSetting
                && setting.endpoints.contains { $0.bEndpointAddress == endpoint }
        }?.endpoints ?? []
    }
}
