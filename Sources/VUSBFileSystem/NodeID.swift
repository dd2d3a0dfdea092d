// SPDX-License-Identifier: Apache-2.0

/// An inode number: what kind of node, and of which guest and device. It is computed, not allotted, so the tree keeps
/// nothing for each name that the kernel has looked up; serial numbers are never used twice, so an old number never
/// names something new.
///
/// Layout: kind in bits 56-63, owner's serial in 32-55, device's serial in 8-31, parameter in 0-7. In the guest's sysfs a
/// device below `firstSerial` is the root hub of that bus; a file of an interface or endpoint has its own number in the
/// low bits of the kind, since the parameter says of which one it is.
struct NodeID: RawRepresentable, Hashable, Sendable {
    let rawValue: UInt64

    init(rawValue: UInt64) { self.rawValue = rawValue }

    enum Kind: UInt8 {
        case root = 0
        case hostDevices
        case hostDevice
        case hostAttribute
        case guests
        case guest
        case guestState
        case guestEvents
        case guestDev
        case guestDevBus
        case guestUSB
        case guestBus
        case deviceNode
        case guestDevices
        case device
        case deviceAttribute
        case endpoints
        case endpoint
        case guestChannel
        /// A fixed directory of the guest's sysfs; the parameter is a `SysfsDirectory`.
        case sysfs
        /// What `bus/usb/devices` has: links to devices and, with the parameter their number, interfaces.
        case sysfsDeviceLink
        case sysfsInterfaceLink
        /// In `dev/char`.
        case sysfsNumberLink
        /// In a directory of `bus/usb/vusb`: the controller's own; the parameter is a `SysfsControllerFile`.
        case sysfsControllerFile
        case sysfsDevice
        /// The parameter is a `SysfsDeviceFile`.
        case sysfsDeviceFile
        /// The parameter is its number.
        case sysfsInterface
        /// The parameter is its address.
        case sysfsEndpoint
        case guestClock
        case guestHeartbeat
        /// 32 kinds each: `file` has the `SysfsInterfaceFile` or `SysfsEndpointFile`, the parameter says of which one.
        case sysfsInterfaceFile = 0x40
        case sysfsEndpointFile = 0x60
    }

    /// Inode 1 is the root by FUSE's rule.
    static let root = NodeID(rawValue: 1)

    /// The numbers before it are those of buses.
    static let firstSerial: UInt32 = 256
    static let maximumSerial = UInt32(1 << 24 - 1)
    private static let filesOfKind: UInt8 = 32

    init(_ kind: Kind, owner: UInt32 = 0, device: UInt32 = 0, parameter: UInt8 = 0) {
        rawValue =
            UInt64(kind.rawValue) << 56 | UInt64(owner & Self.maximumSerial) << 32
            | UInt64(device & Self.maximumSerial) << 8 | UInt64(parameter)
    }

    /// Nil for a number that isn't one of ours.
    var kind: Kind? {
        if self == .root { return .root }
        let kind = UInt8(rawValue >> 56)
        return Kind(rawValue: kind < Kind.sysfsInterfaceFile.rawValue ? kind : kind & ~(Self.filesOfKind - 1))
    }
    var owner: UInt32 { UInt32(rawValue >> 32) & Self.maximumSerial }
    var device: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 8) & Self.maximumSerial }
    var parameter: UInt8 { UInt8(truncatingIfNeeded: rawValue) }

    /// Which file of an interface or an endpoint.
    var file: UInt8 { UInt8(rawValue >> 56) & (Self.filesOfKind - 1) }

    /// The same, as another file of that interface or endpoint.
    func file(_ kind: Kind, _ file: UInt8) -> NodeID {
        NodeID(rawValue: sibling(kind, parameter: parameter).rawValue | UInt64(file & (Self.filesOfKind - 1)) << 56)
    }

    func sibling(_ kind: Kind, parameter: UInt8 = 0) -> NodeID {
        NodeID(kind, owner: owner, device: device, parameter: parameter)
    }
}
