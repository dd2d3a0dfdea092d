// SPDX-License-Identifier: Apache-2.0

/// What becomes of a URB that a guest submits: the only place where it is checked, and where the standard requests
/// that the host must know of are intercepted.
enum URBCheck {
    enum Outcome: Equatable {
        /// It goes no further.
        case complete(URBStatus)
        case carryOut(URB.Operation)
    }

    static func check(_ urb: borrowing URB, settings: ActiveSettings, descriptors: Descriptors) -> Outcome {
        guard urb.requestedLength >= 0, urb.bufferCapacity >= urb.requestedLength else { return .complete(.invalid) }
        if urb.endpoint.number == 0 { return checkControl(urb, settings, descriptors) }
        guard urb.setup == nil else { return .complete(.invalid) }
        guard let endpoint = settings.endpoint(urb.endpoint) else { return .complete(.noEndpoint) }
        guard urb.streamID == 0 || endpoint.transferType == .bulk else { return .complete(.invalid) }
        switch endpoint.transferType {
        case .isochronous:
            guard packetsFit(urb, endpoint) else { return .complete(.invalid) }
        case .bulk, .interrupt:
            guard urb.packetCount == 0 else { return .complete(.invalid) }
        // Message pipes other than endpoint 0 exist on paper only, and no host interface can drive them.
        case .control: return .complete(.notSupported)
        }
        return .carryOut(.transfer(endpoint.transferType))
    }

    private static func packetsFit(_ urb: borrowing URB, _ endpoint: EndpointDescriptor) -> Bool {
        for index in 0..<urb.packetCount {
            guard let packet = urb.packet(at: index),
                Int(packet.length) <= endpoint.maxBytesPerInterval,
                Int(packet.offset) + Int(packet.length) <= urb.requestedLength
            else { return false }
        }
        return urb.packetCount > 0
    }

    private static func checkControl(
        _ urb: borrowing URB,
        _ settings: ActiveSettings,
        _ descriptors: Descriptors
    ) -> Outcome {
        guard let setup = urb.setup, Int(setup.wLength) == urb.requestedLength, urb.packetCount == 0, urb.streamID == 0
        else { return .complete(.invalid) }
        guard setup.kind == .standard else { return .carryOut(.transfer(.control)) }
        guard !isMisdirected(setup) else { return .complete(.stall) }
        // Each of the intercepted requests goes out and has no data stage: a malformed one is a request error.
        if isIntercepted(setup), setup.bmRequestType & 0x80 != 0 || setup.wLength != 0 { return .complete(.stall) }
        return switch (setup.bRequest, setup.recipient) {
        // The host's controller chose the address long ago; the guest's choice is between it and its own controller.
        case (StandardRequest.setAddress, .device): .complete(.success)
        case (StandardRequest.setConfiguration, .device): setConfiguration(setup, descriptors)
        case (StandardRequest.setInterface, .interface): setInterface(setup, settings, descriptors)
        case (StandardRequest.clearFeature, .endpoint) where setup.wValue == StandardFeature.endpointHalt:
            clearHalt(setup, settings)
        default: .carryOut(.transfer(.control))
        }
    }

    /// A request that changes the device's address or settings, but names a recipient that it isn't defined for (USB
    /// 2.0, table 9-3). Firmware that looks only at `bRequest` would carry it out behind the host's back.
    private static func isMisdirected(_ setup: SetupPacket) -> Bool {
        switch setup.bRequest {
        case StandardRequest.setAddress, StandardRequest.setConfiguration: setup.recipient != .device
        case StandardRequest.setInterface: setup.recipient != .interface
        default: false
        }
    }

    private static func isIntercepted(_ setup: SetupPacket) -> Bool {
        switch (setup.bRequest, setup.recipient) {
        case (StandardRequest.setAddress, .device), (StandardRequest.setConfiguration, .device),
            (StandardRequest.setInterface, .interface):
            true
        case (StandardRequest.clearFeature, .endpoint): setup.wValue == StandardFeature.endpointHalt
        default: false
        }
    }

    /// USB 2.0, 9.4.7: an unknown value is a request error, which is a stall.
    private static func setConfiguration(_ setup: SetupPacket, _ descriptors: Descriptors) -> Outcome {
        let value = UInt8(truncatingIfNeeded: setup.wValue)
        guard value == 0 || descriptors.configuration(value: value) != nil else { return .complete(.stall) }
        return .carryOut(.setConfiguration(value))
    }

    /// USB 2.0, 9.4.10.
    private static func setInterface(
        _ setup: SetupPacket,
        _ settings: ActiveSettings,
        _ descriptors: Descriptors
    ) -> Outcome {
        let number = InterfaceNumber(rawValue: UInt8(truncatingIfNeeded: setup.wIndex))
        let alternate = UInt8(truncatingIfNeeded: setup.wValue)
        guard setup.wIndex < 256, setup.wValue < 256,
            let configuration = descriptors.configuration(value: settings.configurationValue),
            configuration.hasSetting(number, alternate: alternate)
        else { return .complete(.stall) }
        return .carryOut(.setInterface(number, alternate: alternate))
    }

    private static func clearHalt(_ setup: SetupPacket, _ settings: ActiveSettings) -> Outcome {
        let address = EndpointAddress(rawValue: UInt8(truncatingIfNeeded: setup.wIndex))
        guard address.number != 0 else { return .carryOut(.transfer(.control)) }
        guard settings.endpoint(address) != nil else { return .complete(.stall) }
        return .carryOut(.clearHalt(address))
    }
}
