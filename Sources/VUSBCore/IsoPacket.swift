// SPDX-License-Identifier: Apache-2.0

/// One packet of an isochronous URB, as in `struct usb_iso_packet_descriptor`.
package struct IsoPacket: Sendable, Equatable {
    /// Where its data begin in the URB's buffer.
    package var offset: UInt32
    /// Bytes asked for (IN) or to be sent (OUT).
    package var length: UInt32
    package var actualLength: UInt32
    package var status: URBStatus

    package init(offset: UInt32, length: UInt32, actualLength: UInt32 = 0, status: URBStatus = .success) {
        self.offset = offset
        self.length = length
        self.actualLength = actualLength
        self.status = status
    }
}

/// The packets of one isochronous URB, in a pooled buffer: no allocation a URB.
@safe
package struct IsoPacketTable: ~Copyable, Sendable {
    /// As many as USB/IP allows; sources take fewer (usbfs 128) and refuse more.
    package static let maximumCount = 1024

    private var storage: TransferBuffer
    package let count: Int

    /// Nil where `count` is 0, above `maximumCount`, or no buffer can be had.
    package init?(count: Int, from pool: BufferPool) {
        guard count > 0, count <= Self.maximumCount else { return nil }
        guard let storage = pool.take(count * MemoryLayout<IsoPacket>.stride) else { return nil }
        // SAFETY: the buffer holds count strides, checked by take; IsoPacket is trivial.
        unsafe storage.baseAddress.initializeMemory(
            as: IsoPacket.self,
            repeating: IsoPacket(offset: 0, length: 0),
            count: count
        )
        self.storage = storage
        self.count = count
    }

    package subscript(index: Int) -> IsoPacket {
        get {
            precondition(index >= 0 && index < count)
            // SAFETY: bounds checked, memory bound to IsoPacket by init.
            return unsafe storage.baseAddress.assumingMemoryBound(to: IsoPacket.self)[index]
        }
        set {
            precondition(index >= 0 && index < count)
            // SAFETY: as above.
            unsafe storage.baseAddress.assumingMemoryBound(to: IsoPacket.self)[index] = newValue
        }
    }
}
