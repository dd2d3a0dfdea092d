// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Constants of `linux/usbdevice_fs.h`, and what usbfs and CUSE allow at most.
enum UsbfsABI {
    /// `struct usbdevfs_getdriver`, `_connectinfo`, `_conninfo_ex`, `_disconnect_claim`.
    static let driverSize = 260
    static let connectInfoSize = 8
    static let connectInfoExSize = 24
    static let disconnectClaimSize = 264
    /// `struct usbdevfs_iso_packet_desc`.
    static let packetSize = 12

    /// `USBDEVFS_CAP_*`: zero packet, bulk continuation, no size limit, scatter-gather (that is: a bulk URB may be long),
    /// reap after disconnect, drop privileges, CONNINFO_EX.
    static let capabilities: UInt32 = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80

    /// Linux's own limit for one URB (`UINT_MAX / 2 - 1000000`): EINVAL from here on.
    static let transferLimit = UInt32.max / 2 - 1_000_000
    /// What CUSE can carry in one round: 32 pages, less a page for all that isn't data.
    static let dataLimit = 124 << 10
    /// Of URBs that aren't reaped, as usbfs has it for all its users. ENOMEM above.
    static let memoryLimit = 16 << 20
    /// CONTROL takes a page.
    static let controlLimit = 4096
    static let packetLimit = 128
    static let packetLengthLimit: UInt32 = 98_304
    /// Endpoints that ALLOC_STREAMS may name.
    static let streamEndpointLimit: UInt32 = 30
    /// Interfaces that a claim can name: bits of a long.
    static let interfaceLimit: UInt32 = 64

    enum Flag {
        static let shortNotOK: UInt32 = 0x01
        static let isoASAP: UInt32 = 0x02
        static let bulkContinuation: UInt32 = 0x04
        static let noFSBR: UInt32 = 0x20
        static let zeroPacket: UInt32 = 0x40
        static let noInterrupt: UInt32 = 0x80

        /// Those that a URB of this type may have.
        static func allowed(_ type: UsbfsURB.Kind) -> UInt32 {
            let all = shortNotOK | bulkContinuation | noFSBR | zeroPacket | noInterrupt
            return type == .isochronous ? all | isoASAP : all
        }
    }

    /// USB_SPEED_* of `linux/usb/ch9.h`.
    static func speed(_ speed: DeviceSpeed) -> UInt32 {
        switch speed {
        case .low: 1
        case .full: 2
        case .high: 3
        case .super: 5
        case .superPlus: 6
        }
    }
}

/// Reads fields of structures, little-endian as all hosts of vusbd are. Traps outside of the span: whoever calls has
/// checked that the structure is there whole.
extension Span where Element == UInt8 {
    func u16(_ offset: Int) -> UInt16 { UInt16(self[offset]) | UInt16(self[offset + 1]) << 8 }
    func u32(_ offset: Int) -> UInt32 { UInt32(u16(offset)) | UInt32(u16(offset + 2)) << 16 }
    func i32(_ offset: Int) -> Int32 { Int32(bitPattern: u32(offset)) }
    func pointer(_ offset: Int, _ layout: UsbfsLayout) -> UInt64 {
        let low = UInt64(u32(offset))
        return layout == .native ? low | UInt64(u32(offset + 4)) << 32 : low
    }
}

/// Writes fields of structures into a few bytes.
struct UsbfsFields {
    private(set) var bytes: [UInt8]

    init(count: Int) { bytes = Array(repeating: 0, count: count) }

    mutating func put(_ value: UInt32, at offset: Int) {
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index)) }
    }

    mutating func put(byte: UInt8, at offset: Int) { bytes[offset] = byte }

    mutating func put(text: String, at offset: Int) {
        for (index, byte) in text.utf8.enumerated() { bytes[offset + index] = byte }
    }
}
