// SPDX-License-Identifier: Apache-2.0

/// How a caller lays its structures out: as a 64-bit program, or as a 32-bit one on the same kernel. The number of an
/// ioctl says which, by the size in it.
enum UsbfsLayout: Sendable {
    case native
    case compat

    var pointerSize: Int { self == .native ? 8 : 4 }

    /// `struct usbdevfs_ctrltransfer`.
    var controlSize: Int { self == .native ? 24 : 16 }
    var controlDataOffset: Int { self == .native ? 16 : 12 }

    /// `struct usbdevfs_bulktransfer`.
    var bulkSize: Int { self == .native ? 24 : 16 }
    var bulkDataOffset: Int { self == .native ? 16 : 12 }

    /// `struct usbdevfs_urb`, without packets.
    var urbSize: Int { self == .native ? 56 : 44 }
    var urbBufferOffset: Int { self == .native ? 16 : 12 }
    /// Where `buffer_length` is; what follows it lies as densely in both.
    var urbLengthOffset: Int { self == .native ? 24 : 16 }

    /// `struct usbdevfs_disconnectsignal`, `struct usbdevfs_ioctl`.
    var signalSize: Int { self == .native ? 16 : 8 }
    var ioctlSize: Int { self == .native ? 16 : 12 }
}

/// An ioctl of usbfs, by its number.
struct UsbfsCommand: Equatable, Sendable {
    enum Kind: Equatable, Sendable {
        case control, bulk, resetEndpoint, setInterface, setConfiguration, getDriver
        case submitURB, discardURB
        case reapURB(waits: Bool)
        case disconnectSignal, claimInterface, releaseInterface, connectInfo, ioctl, reset, clearHalt
        case claimPort, releasePort, getCapabilities, disconnectClaim, allocateStreams, freeStreams
        case dropPrivileges, getSpeed
        case connectInfoEx(length: Int)
    }

    let kind: Kind
    let layout: UsbfsLayout

    init(_ kind: Kind, _ layout: UsbfsLayout = .native) {
        self.kind = kind
        self.layout = layout
    }

    /// `_IOC`'s direction bits. usbfs has them the wrong way around, which nothing depends on.
    private enum Direction { static let none: UInt32 = 0, write: UInt32 = 1, read: UInt32 = 2, both: UInt32 = 3 }

    /// Nil for a number that usbfs hasn't got: as there, a wrong size or direction makes another number.
    init?(number: UInt32) {
        let (direction, size, code) = (number >> 30, Int(number >> 16 & 0x3fff), number & 0xff)
        guard number >> 8 & 0xff == 0x55 else { return nil }
        for layout in [UsbfsLayout.native, .compat] {
            for row in Self.rows where row.code == code && row.direction == direction && row.size(layout) == size {
                self.init(row.kind, layout)
                return
            }
        }
        guard code == 32, direction == Direction.read else { return nil }
        self.init(.connectInfoEx(length: size))
    }

    private struct Row: Sendable {
        let code: UInt32
        let direction: UInt32
        let kind: Kind
        let size: @Sendable (UsbfsLayout) -> Int

        init(_ code: UInt32, _ direction: UInt32, _ kind: Kind, _ size: @escaping @Sendable (UsbfsLayout) -> Int) {
            self.code = code
            self.direction = direction
            self.kind = kind
            self.size = size
        }

        init(_ code: UInt32, _ direction: UInt32, _ kind: Kind, _ size: Int) {
            self.init(code, direction, kind) { _ in size }
        }
    }

    /// The most frequent first.
    private static let rows: [Row] = [
        Row(13, Direction.write, .reapURB(waits: false)) { $0.pointerSize },
        Row(10, Direction.read, .submitURB) { $0.urbSize },
        Row(0, Direction.both, .control) { $0.controlSize },
        Row(12, Direction.write, .reapURB(waits: true)) { $0.pointerSize },
        Row(11, Direction.none, .discardURB, 0),
        Row(2, Direction.both, .bulk) { $0.bulkSize },
        Row(3, Direction.read, .resetEndpoint, 4),
        Row(4, Direction.read, .setInterface, 8),
        Row(5, Direction.read, .setConfiguration, 4),
        Row(8, Direction.write, .getDriver, UsbfsABI.driverSize),
        Row(14, Direction.read, .disconnectSignal) { $0.signalSize },
        Row(15, Direction.read, .claimInterface, 4),
        Row(16, Direction.read, .releaseInterface, 4),
        Row(17, Direction.write, .connectInfo, UsbfsABI.connectInfoSize),
        Row(18, Direction.both, .ioctl) { $0.ioctlSize },
        Row(20, Direction.none, .reset, 0),
        Row(21, Direction.read, .clearHalt, 4),
        Row(24, Direction.read, .claimPort, 4),
        Row(25, Direction.read, .releasePort, 4),
        Row(26, Direction.read, .getCapabilities, 4),
        Row(27, Direction.read, .disconnectClaim, UsbfsABI.disconnectClaimSize),
        Row(28, Direction.read, .allocateStreams, 8),
        Row(29, Direction.read, .freeStreams, 8),
        Row(30, Direction.write, .dropPrivileges, 4),
        Row(31, Direction.none, .getSpeed, 0),
    ]

    /// Whether it begins something at the device: what a device that is to be quiet doesn't get.
    var beginsWork: Bool {
        switch kind {
        case .control, .bulk, .resetEndpoint, .setInterface, .setConfiguration, .submitURB, .reset, .clearHalt: true
        case .getDriver, .discardURB, .reapURB, .disconnectSignal, .claimInterface, .releaseInterface, .connectInfo,
            .ioctl, .claimPort, .releasePort, .getCapabilities, .disconnectClaim, .allocateStreams, .freeStreams,
            .dropPrivileges, .getSpeed, .connectInfoEx:
            false
        }
    }
}
