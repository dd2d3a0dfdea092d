// SPDX-License-Identifier: Apache-2.0

internal import CUSBRedirParser
internal import VUSBCore

/// The rules of a guest about which devices it takes, as QEMU's option `filter` has them.
@safe
final class RedirFilter: Equatable {
    // SAFETY: owned by this object alone, freed once, at its end.
    private let rules: UnsafeMutablePointer<usbredirfilter_rule>?
    private let count: Int32

    /// Takes the rules over.
    @unsafe
    init(_ rules: UnsafeMutablePointer<usbredirfilter_rule>?, count: Int32) {
        unsafe self.rules = rules
        self.count = count
    }

    deinit { unsafe usbredirfilter_free(rules) }

    static func == (left: RedirFilter, right: RedirFilter) -> Bool { left === right }

    /// Whether the device may go to that guest, with the settings that are in force.
    func admits(_ descriptors: Descriptors, _ settings: ActiveSettings) -> Bool {
        let device = descriptors.device
        let interfaces = settings.interfaces(of: descriptors)
        // The library wants arrays that it may write to, and reads as many as it's told.
        var classes = interfaces.map(\.bInterfaceClass)
        var subclasses = interfaces.map(\.bInterfaceSubClass)
        var protocols = interfaces.map(\.bInterfaceProtocol)
        return unsafe usbredirfilter_check(
            rules, count, device.bDeviceClass, device.bDeviceSubClass, device.bDeviceProtocol, &classes, &subclasses,
            &protocols, Int32(interfaces.count), device.idVendor, device.idProduct, device.bcdDevice, 0) == 0
    }
}

extension ActiveSettings {
    /// The interfaces in force, at their alternate settings; at most 32, as the protocol's table has room for.
    func interfaces(of descriptors: Descriptors) -> [InterfaceDescriptor] {
        let configuration = descriptors.configuration(value: configurationValue)
        return Array((configuration?.alternateSettings(alternates) ?? []).prefix(32))
    }
}
