// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A stream on one endpoint: transfers that the host keeps in flight by itself. Redirect.md has its states.
struct RedirStream {
    enum Kind: Equatable {
        case isochronous
        /// IN only.
        case interrupt
        /// IN only: received ahead of the guest's asking.
        case bulk
    }

    let wish: RedirStreamWish
    let address: EndpointAddress
    /// Of an isochronous packet at most; else of a transfer.
    let size: Int
    /// Tells this stream's URBs from those of an earlier one on the endpoint.
    let generation: Int
    var inFlight = 0
    /// Without a success between.
    var failures = 0
    /// Of the next packet that is sent to the guest.
    var nextID: UInt64 = 0
    /// Nothing is submitted: the device is to be quiet.
    var isParked = false
    /// Somebody submits; `again` has them look once more.
    var isPumping = false
    var again = false

    // Isochronous OUT: the jitter buffer.

    /// The slot whose URB is being filled.
    var filling: Int?
    /// Slots whose URBs are full, in order.
    var ready: [Int] = []
    /// Nothing is sent until half of the URBs are full.
    var isPrefilling = true

    init(_ wish: RedirStreamWish, address: EndpointAddress, size: Int, generation: Int) {
        self.wish = wish
        self.address = address
        self.size = size
        self.generation = generation
    }

    var isOut: Bool { address.direction == .out }

    /// Whether a guest may have such a stream: what it asks for must fit the endpoint and the limits.
    static func size(for wish: RedirStreamWish, on endpoint: EndpointDescriptor?) -> Int? {
        guard let endpoint, endpoint.transferType == wish.kind.transferType else { return nil }
        let perInterval = endpoint.maxBytesPerInterval
        switch wish.kind {
        case .isochronous:
            let packets = wish.packetsPerURB * wish.transfers
            guard (1...RedirLimits.isochronousPackets).contains(packets), perInterval > 0,
                packets * perInterval <= RedirLimits.isochronousBytes
            else { return nil }
            return perInterval
        case .interrupt: return perInterval > 0 ? perInterval : nil
        case .bulk:
            guard (1...RedirLimits.bulkTransfers).contains(wish.transfers),
                (1...RedirLimits.bulkTransfer).contains(wish.bytesPerTransfer), wish.streamID <= UInt16.max
            else { return nil }
            return wish.bytesPerTransfer
        }
    }
}

extension RedirStream.Kind {
    var transferType: TransferType {
        switch self {
        case .isochronous: .isochronous
        case .interrupt: .interrupt
        case .bulk: .bulk
        }
    }
}
