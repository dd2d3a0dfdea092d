// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// What the standard requests change, besides settings and halts.
struct Chapter9State: Sendable {
    var remoteWakeup = false
    var u1Enabled = false
    var u2Enabled = false
}

/// Feature selectors of USB 3.2, table 9-7.
private enum SuperSpeedFeature {
    static let functionSuspend: UInt16 = 0
    static let u1Enable: UInt16 = 48
    static let u2Enable: UInt16 = 49
}

extension DeviceState {
    /// The standard requests (USB 2.0, 9.4; USB 3.2, 9.4) that `VirtualDevice` doesn't turn into operations. What a
    /// device doesn't know is answered with a stall, which ends with the next setup packet.
    mutating func standardRequest(_ setup: SetupPacket) -> ControlReply {
        switch (setup.bRequest, setup.recipient) {
        case (StandardRequest.getDescriptor, .device) where isIn(setup): deviceDescriptor(setup)
        case (StandardRequest.getDescriptor, .interface) where isIn(setup): interfaceDescriptor(setup)
        case (StandardRequest.getStatus, _) where isIn(setup): status(setup)
        case (StandardRequest.getConfiguration, .device) where isIn(setup): .data([settings.configurationValue])
        case (StandardRequest.getInterface, .interface) where isIn(setup): alternate(setup)
        case (StandardRequest.synchFrame, .endpoint) where isIn(setup): synchFrame(setup)
        case (StandardRequest.setFeature, _): feature(setup, isSet: true)
        case (StandardRequest.clearFeature, _): feature(setup, isSet: false)
        // Exit latencies and the delay of the path: nothing here depends on them.
        case (StandardRequest.setSel, .device) where isSuper && setup.wLength == 6: .acknowledge
        case (StandardRequest.setIsochDelay, .device) where isSuper && setup.wLength == 0: .acknowledge
        default: .stall
        }
    }

    private var isSuper: Bool { blueprint.speed == .super }

    private func isIn(_ setup: SetupPacket) -> Bool { setup.bmRequestType & 0x80 != 0 }

    private func deviceDescriptor(_ setup: SetupPacket) -> ControlReply {
        let index = UInt8(truncatingIfNeeded: setup.wValue)
        let bytes: [UInt8]? =
            switch (UInt8(setup.wValue >> 8), index) {
            case (DescriptorType.device, 0): blueprint.device
            case (DescriptorType.configuration, 0): blueprint.configuration
            case (DescriptorType.string, _): string(index, language: setup.wIndex)
            case (DescriptorType.deviceQualifier, 0): blueprint.qualifier
            case (DescriptorType.otherSpeedConfiguration, 0): blueprint.otherSpeedConfiguration
            case (DescriptorType.bos, 0): blueprint.bos
            default: nil
            }
        return bytes.map { .data($0) } ?? .stall
    }

    private func string(_ index: UInt8, language: UInt16) -> [UInt8]? {
        guard index == 0 || language == 0x0409 else { return nil }
        return switch index {
        case 0: DescriptorBuilder.languages
        case 1: StringDescriptor(text: Blueprint.manufacturer).bytes
        case 2: StringDescriptor(text: blueprint.product).bytes
        case 3: StringDescriptor(text: serial).bytes
        default: nil
        }
    }

    private func interfaceDescriptor(_ setup: SetupPacket) -> ControlReply {
        guard let interface = interface(setup) else { return .stall }
        let bytes = model.interfaceDescriptor(
            type: UInt8(setup.wValue >> 8),
            index: UInt8(truncatingIfNeeded: setup.wValue),
            interface: interface.rawValue
        )
        return bytes.map { .data($0) } ?? .stall
    }

    /// The interface that a request names, where the configuration has it.
    private func interface(_ setup: SetupPacket) -> InterfaceNumber? {
        guard setup.wIndex < 256 else { return nil }
        let number = InterfaceNumber(rawValue: UInt8(setup.wIndex))
        return settings.alternates[number] == nil ? nil : number
    }

    /// The endpoint that a request names: 0, or one of the settings in force.
    private func endpoint(_ setup: SetupPacket) -> EndpointAddress? {
        guard setup.wIndex < 256, setup.wIndex & 0x70 == 0 else { return nil }
        let address = EndpointAddress(rawValue: UInt8(setup.wIndex))
        return address.number == 0 || settings.endpoint(address) != nil ? address : nil
    }

    private func alternate(_ setup: SetupPacket) -> ControlReply {
        guard setup.wValue == 0, let number = interface(setup), let alternate = settings.alternates[number]
        else { return .stall }
        return .data([alternate])
    }

    /// Two bytes. Of a device: bit 0 self-powered, 1 remote wakeup, 2 U1, 3 U2. Of an endpoint: bit 0 halt.
    private func status(_ setup: SetupPacket) -> ControlReply {
        guard setup.wValue == 0 else { return .stall }
        switch setup.recipient {
        case .device:
            guard setup.wIndex == 0 else { return .stall }
            let configuration = blueprint.descriptors.configurations.first
            let isSelfPowered = (configuration?.bmAttributes ?? 0) & 0x40 != 0
            let bits = [isSelfPowered, chapter9.remoteWakeup, chapter9.u1Enabled, chapter9.u2Enabled]
            return .data([bits.enumerated().reduce(0) { $0 | ($1.element ? 1 << UInt8($1.offset) : 0) }, 0])
        case .interface: return interface(setup) == nil ? .stall : .data([0, 0])
        case .endpoint:
            guard let address = endpoint(setup) else { return .stall }
            return .data([halted.contains(address) ? 1 : 0, 0])
        case .other: return .stall
        }
    }

    /// CLEAR_FEATURE(ENDPOINT_HALT) of other endpoints than 0 doesn't come here: it's an operation.
    private mutating func feature(_ setup: SetupPacket, isSet: Bool) -> ControlReply {
        guard setup.wLength == 0 else { return .stall }
        switch setup.recipient {
        case .device: return deviceFeature(setup, isSet: isSet)
        case .interface:
            guard isSuper, setup.wValue == SuperSpeedFeature.functionSuspend else { return .stall }
            // The high byte of wIndex says how it's to suspend.
            let number = InterfaceNumber(rawValue: UInt8(truncatingIfNeeded: setup.wIndex))
            return settings.alternates[number] == nil ? .stall : .acknowledge
        case .endpoint:
            guard setup.wValue == StandardFeature.endpointHalt, let address = endpoint(setup) else { return .stall }
            return halt(address, isSet: isSet)
        case .other: return .stall
        }
    }

    /// Endpoint 0 recovers from a stall by itself and isn't halted. Isochronous endpoints have no halt.
    private mutating func halt(_ address: EndpointAddress, isSet: Bool) -> ControlReply {
        guard address.number != 0 else { return isSet ? .stall : .acknowledge }
        guard let endpoint = settings.endpoint(address), endpoint.transferType != .isochronous else { return .stall }
        guard isSet else { return clearHalt(address) ? .acknowledge : .stall }
        halted.insert(address)
        wake(EndpointSet(address))
        return .acknowledge
    }

    private mutating func deviceFeature(_ setup: SetupPacket, isSet: Bool) -> ControlReply {
        let attributes = blueprint.descriptors.configurations.first?.bmAttributes ?? 0
        switch setup.wValue {
        case StandardFeature.remoteWakeup where attributes & 0x20 != 0 && !isSuper: chapter9.remoteWakeup = isSet
        // Only a configured device has them (USB 3.2, 9.4.9).
        case SuperSpeedFeature.u1Enable where isSuper && settings.configurationValue != 0: chapter9.u1Enabled = isSet
        case SuperSpeedFeature.u2Enable where isSuper && settings.configurationValue != 0: chapter9.u2Enabled = isSet
        default: return .stall
        }
        return .acknowledge
    }

    /// The number of a frame in which the pattern begins again: every one is.
    private func synchFrame(_ setup: SetupPacket) -> ControlReply {
        guard setup.wValue == 0, let address = endpoint(setup),
            settings.endpoint(address)?.transferType == .isochronous
        else { return .stall }
        return .data([0, 0])
    }
}
