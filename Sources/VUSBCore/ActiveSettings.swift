// SPDX-License-Identifier: Apache-2.0

/// The configuration and alternate settings in force, and the endpoints that follow from them.
package struct ActiveSettings: Sendable, Equatable {
    /// 0 while unconfigured.
    package private(set) var configurationValue: UInt8
    package private(set) var alternates: [InterfaceNumber: UInt8]
    /// By `EndpointAddress.index`; endpoint 0 isn't in it.
    private var endpointTable: [EndpointDescriptor?]

    /// - Parameters:
    ///   - configurationValue: 0, or one that `descriptors` has; another counts as 0.
    package init(
        _ descriptors: Descriptors,
        configurationValue: UInt8,
        alternates: [InterfaceNumber: UInt8] = [:]
    ) {
        endpointTable = Array(repeating: nil, count: 32)
        self.alternates = [:]
        guard let configuration = descriptors.configuration(value: configurationValue) else {
            self.configurationValue = 0
            return
        }
        self.configurationValue = configurationValue
        for setting in configuration.alternateSettings(alternates) {
            self.alternates[setting.bInterfaceNumber] = setting.bAlternateSetting
            for endpoint in setting.endpoints { endpointTable[endpoint.bEndpointAddress.index] = endpoint }
        }
    }

    /// After a SET_INTERFACE. Where the configuration in force hasn't got that setting (it changed meanwhile), nothing
    /// changes.
    package mutating func choose(_ interface: InterfaceNumber, alternate: UInt8, _ descriptors: Descriptors) {
        guard let configuration = descriptors.configuration(value: configurationValue),
            configuration.hasSetting(interface, alternate: alternate)
        else { return }
        var chosen = alternates
        chosen[interface] = alternate
        self = ActiveSettings(descriptors, configurationValue: configurationValue, alternates: chosen)
    }

    /// Nil where the address isn't part of the settings in force.
    package func endpoint(_ address: EndpointAddress) -> EndpointDescriptor? { endpointTable[address.index] }

    /// In the order of their addresses.
    package var endpoints: [EndpointDescriptor] {
        endpointTable.compactMap(\.self).sorted { $0.bEndpointAddress.rawValue < $1.bEndpointAddress.rawValue }
    }
}
