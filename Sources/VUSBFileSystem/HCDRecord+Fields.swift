// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import VUSBCore

/// The parts that records of one type have, by the structs of vusb_abi.h.
extension HCDRecord {
    /// `struct vusb_hello`.
    struct Hello: Sendable, Equatable {
        var magic = UInt32(VUSB_ABI_MAGIC)
        var version = UInt16(VUSB_ABI_VERSION)
        var ports: UInt16 = 0
        var features: UInt32 = 0
        var urbs: UInt32 = 0
        var bytes: UInt32 = 0
        var maxTransfer: UInt32 = 0
        /// Microseconds.
        var wait: UInt32 = 0
    }

    var hello: Hello {
        get {
            Hello(
                magic: word(16), version: half(20), ports: half(22), features: word(24), urbs: word(28),
                bytes: word(32), maxTransfer: word(36), wait: word(40))
        }
        set {
            setWord(16, newValue.magic)
            setHalf(20, newValue.version)
            setHalf(22, newValue.ports)
            setWord(24, newValue.features)
            setWord(28, newValue.urbs)
            setWord(32, newValue.bytes)
            setWord(36, newValue.maxTransfer)
            setWord(40, newValue.wait)
        }
    }

    /// `struct vusb_submit`.
    struct Submit: Sendable, Equatable {
        var endpoint: UInt8 = 0
        var transfer: UInt8 = 0
        var flags: UInt16 = 0
        var length: UInt32 = 0
        var stream: UInt16 = 0
        var packets: UInt16 = 0
        var interval: UInt32 = 0
        var setup = SetupPacket(bmRequestType: 0, bRequest: 0, wValue: 0, wIndex: 0, wLength: 0)
    }

    var submit: Submit {
        get {
            Submit(
                endpoint: byte(16), transfer: byte(17), flags: half(18), length: word(20), stream: half(24),
                packets: half(26), interval: word(28),
                setup: SetupPacket(
                    bmRequestType: byte(32), bRequest: byte(33), wValue: half(34), wIndex: half(36), wLength: half(38)))
        }
        set {
            setByte(16, newValue.endpoint)
            setByte(17, newValue.transfer)
            setHalf(18, newValue.flags)
            setWord(20, newValue.length)
            setHalf(24, newValue.stream)
            setHalf(26, newValue.packets)
            setWord(28, newValue.interval)
            setByte(32, newValue.setup.bmRequestType)
            setByte(33, newValue.setup.bRequest)
            setHalf(34, newValue.setup.wValue)
            setHalf(36, newValue.setup.wIndex)
            setHalf(38, newValue.setup.wLength)
        }
    }

    /// `struct vusb_complete`.
    struct Complete: Sendable, Equatable {
        var status: Int32 = 0
        var actualLength: UInt32 = 0
        var startFrame: UInt32 = 0
        var packets: UInt16 = 0
        var errorCount: UInt16 = 0
    }

    var complete: Complete {
        get {
            Complete(
                status: Int32(bitPattern: word(16)), actualLength: word(20), startFrame: word(24), packets: half(28),
                errorCount: half(30))
        }
        set {
            setWord(16, UInt32(bitPattern: newValue.status))
            setWord(20, newValue.actualLength)
            setWord(24, newValue.startFrame)
            setHalf(28, newValue.packets)
            setHalf(30, newValue.errorCount)
        }
    }

    /// Of `struct vusb_result`.
    var resultStatus: Int32 {
        get { Int32(bitPattern: word(16)) }
        set { setWord(16, UInt32(bitPattern: newValue)) }
    }

    /// Of `struct vusb_added`: `enum vusb_speed`, and the port that the host would like.
    var addedSpeed: UInt8 {
        get { byte(16) }
        set { setByte(16, newValue) }
    }

    var addedPort: UInt32 {
        get { word(20) }
        set { setWord(20, newValue) }
    }

    /// Of `struct vusb_remove`: `enum vusb_removal`.
    var removal: UInt8 {
        get { byte(16) }
        set { setByte(16, newValue) }
    }

    /// Of `struct vusb_wait`: microseconds.
    var waitTime: UInt32 {
        get { word(16) }
        set { setWord(16, newValue) }
    }

    var waitFlags: UInt32 {
        get { word(20) }
        set { setWord(20, newValue) }
    }
}

/// An entry of a packet table, `struct vusb_iso_packet`.
enum HCDPacket {
    static let byteCount = 12

    /// The length that a submit's entry asks for.
    @unsafe
    static func length(at entry: UnsafeRawPointer) -> UInt32 {
        unsafe UInt32(littleEndian: entry.loadUnaligned(as: UInt32.self))
    }

    @unsafe
    static func write(_ packet: IsoPacket, to entry: UnsafeMutableRawPointer) {
        unsafe entry.storeBytes(of: packet.length.littleEndian, as: UInt32.self)
        unsafe entry.storeBytes(
            of: min(packet.actualLength, packet.length).littleEndian, toByteOffset: 4, as: UInt32.self)
        unsafe entry.storeBytes(of: packet.status.rawValue.littleEndian, toByteOffset: 8, as: Int32.self)
    }
}

extension DeviceSpeed {
    /// `enum vusb_speed`.
    var channelValue: UInt8 {
        switch self {
        case .low: UInt8(VUSB_SPEED_LOW.rawValue)
        case .full: UInt8(VUSB_SPEED_FULL.rawValue)
        case .high: UInt8(VUSB_SPEED_HIGH.rawValue)
        case .super: UInt8(VUSB_SPEED_SUPER.rawValue)
        case .superPlus: UInt8(VUSB_SPEED_SUPER_PLUS.rawValue)
        }
    }
}
