// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import VUSBCore

/// The 48 bytes that an answer begins with. `devid`, direction and endpoint are 0 in all of them.
struct USBIPReply: Equatable {
    private let command: UInt32
    private let seqnum: UInt32
    private let status: Int32
    private var actualLength: UInt32 = 0
    private var startFrame: UInt32 = 0
    private var packetCount: UInt32 = 0
    private var errorCount: UInt32 = 0

    /// RET_UNLINK.
    init(unlink seqnum: UInt32, _ status: URBStatus) {
        command = USBIPNumbers.replyUnlink
        self.seqnum = seqnum
        self.status = status.usbipNumber
    }

    /// RET_SUBMIT.
    /// - Parameters:
    ///   - actualLength: that of all packets together where there are some.
    ///   - packetCount: as the peer gave it.
    init(
        submit seqnum: UInt32, _ status: URBStatus, actualLength: Int = 0, packetCount: UInt32, startFrame: UInt32 = 0,
        errorCount: Int = 0
    ) {
        command = USBIPNumbers.replySubmit
        self.seqnum = seqnum
        self.status = status.usbipNumber
        self.actualLength = UInt32(clamping: actualLength)
        self.packetCount = packetCount
        self.startFrame = startFrame
        self.errorCount = UInt32(clamping: errorCount)
    }

    /// Writes it to where there is room for 48 bytes; traps where there isn't.
    @unsafe
    func store(to target: UnsafeMutableRawBufferPointer) {
        precondition(target.count >= USBIPNumbers.headerBytes)
        let words = (
            command, seqnum, UInt64(0), UInt32(0), UInt32(bitPattern: status), actualLength, startFrame, packetCount,
            errorCount, UInt64(0)
        )
        unsafe target.storeBytes(of: words.0.bigEndian, toByteOffset: 0, as: UInt32.self)
        unsafe target.storeBytes(of: words.1.bigEndian, toByteOffset: 4, as: UInt32.self)
        unsafe target.storeBytes(of: words.2, toByteOffset: 8, as: UInt64.self)
        unsafe target.storeBytes(of: words.3, toByteOffset: 16, as: UInt32.self)
        unsafe target.storeBytes(of: words.4.bigEndian, toByteOffset: 20, as: UInt32.self)
        unsafe target.storeBytes(of: words.5.bigEndian, toByteOffset: 24, as: UInt32.self)
        unsafe target.storeBytes(of: words.6.bigEndian, toByteOffset: 28, as: UInt32.self)
        unsafe target.storeBytes(of: words.7.bigEndian, toByteOffset: 32, as: UInt32.self)
        unsafe target.storeBytes(of: words.8.bigEndian, toByteOffset: 36, as: UInt32.self)
        unsafe target.storeBytes(of: words.9, toByteOffset: 40, as: UInt64.self)
    }
}

extension ByteBuffer {
    mutating func append(_ reply: USBIPReply) {
        // SAFETY: there is room for as many bytes as are asked for.
        unsafe writeWithUnsafeMutableBytes(minimumWritableBytes: USBIPNumbers.headerBytes) { target in
            unsafe reply.store(to: target)
            return USBIPNumbers.headerBytes
        }
    }

    /// A `usbip_iso_packet_descriptor`.
    mutating func append(_ packet: IsoPacket) {
        writeMultipleIntegers(
            packet.offset, packet.length, packet.actualLength, UInt32(bitPattern: packet.status.usbipNumber))
    }
}
