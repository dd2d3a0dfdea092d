// SPDX-License-Identifier: Apache-2.0

/// An inode number: what kind of node, and of which guest and device. It is computed, not allotted, so the tree keeps
/// nothing for each name that the kernel has looked up; serial numbers are never used twice, so an old number never
/// names something new.
///
/// Layout: kind in bits 56-63, owner's serial in 32-55, device's serial in 8-31, parameter in 0-7.
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
    }

    /// Inode 1 is the root by FUSE's rule.
    static let root = NodeID(rawValue: 1)

    static let maximumSerial = UInt32(1 << 24 - 1)

    init(_ kind: Kind, owner: UInt32 = 0, device: UInt32 = 0, parameter: UInt8 = 0) {
        rawValue =
            UInt64(kind.rawValue) << 56 | UInt64(owner & Self.maximumSerial) << 32
            | UInt64(device & Self.maximumSerial) << 8 | UInt64(parameter)
    }

    /// Nil for a number that isn't one of ours.
    var kind: Kind? { self == .root ? .root : Kind(rawValue: UInt8(rawValue >> 56)) }
    var owner: UInt32 { UInt32(rawValue >> 32) & Self.maximumSerial }
    var device: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 8) & Self.maximumSerial }
    var parameter: UInt8 { UInt8(truncatingIfNeeded: rawValue) }

    func sibling(_ kind: Kind, parameter: UInt8 = 0) -> NodeID {
        NodeID(kind, owner: owner, device: device, parameter: parameter)
    }
}
