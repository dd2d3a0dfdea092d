// SPDX-License-Identifier: Apache-2.0

/// Who submitted a URB and gets it back.
package protocol URBHandler: AnyObject, Sendable {
    /// Called exactly once for each URB, on whatever thread completes it, with no lock held; it may be called before
    /// `submit` has returned. It must not block.
    func urbCompleted(_ urb: consuming URB)
}

/// One transfer request, for every transfer type, front and source: the waist of the hourglass.
///
/// A front makes it, `VirtualDevice.submit` accepts it, a `USBBackend` carries it out and gives it back with
/// `complete`, exactly once. Whoever holds the value owns its buffer.
package struct URB: ~Copyable, Sendable {
    /// What the backend is to do.
    package enum Operation: Sendable, Equatable {
        /// Move data. For control transfers, `setup` says which.
        case transfer(TransferType)
        /// SET_CONFIGURATION; 0 leaves the device unconfigured.
        case setConfiguration(UInt8)
        /// SET_INTERFACE.
        case setInterface(InterfaceNumber, alternate: UInt8)
        /// CLEAR_FEATURE(ENDPOINT_HALT), with the host's own toggle.
        case clearHalt(EndpointAddress)
    }

    /// What the submitter asks of a transfer beyond its data, as `URB_SHORT_NOT_OK` and `URB_ZERO_PACKET` of Linux do.
    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt8
        /// Bits that have no name here mean nothing.
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// A short IN transfer ends with `shortNotOK`.
        package static let shortNotOK = Flags(rawValue: 1)
        /// An OUT transfer of a multiple of the packet size ends with a zero-length packet.
        package static let zeroPacket = Flags(rawValue: 2)
    }

    /// Set by `VirtualDevice` from the endpoint and the setup packet; what a front puts here is only a default.
    package var operation: Operation = .transfer(.bulk)
    package let endpoint: EndpointAddress
    /// Only for control transfers.
    package let setup: SetupPacket?
    package var flags: Flags = []
    /// Bulk stream (USB 3), 0 for none.
    package var streamID: UInt16 = 0
    /// Isochronous only.
    package var packets: IsoPacketTable?
    /// Isochronous only: the frame in which it began, where the source knows it.
    package var startFrame: UInt32 = 0

    /// The data stage; at least `requestedLength` bytes. Nil where there is none.
    package var buffer: TransferBuffer?
    package let requestedLength: Int

    /// Results; meaningful once completed.
    package internal(set) var status: URBStatus = .success
    package private(set) var actualLength = 0
    /// Isochronous only: packets that failed.
    package var errorCount = 0

    /// Given by `VirtualDevice` at submit.
    package internal(set) var token = URBToken.none
    /// The submitter's own, untouched by all others.
    package let context: UInt64
    package let handler: any URBHandler
    var device: VirtualDevice?
    /// Where the device's scheduler counts it.
    var charge: Charge = []

    /// - Parameters:
    ///   - requestedLength: bytes to move; checked by `VirtualDevice.submit` against the buffer's capacity.
    package init(
        endpoint: EndpointAddress,
        setup: SetupPacket? = nil,
        buffer: consuming TransferBuffer?,
        requestedLength: Int,
        handler: any URBHandler,
        context: UInt64
    ) {
        self.endpoint = endpoint
        self.setup = setup
        self.buffer = buffer
        self.requestedLength = requestedLength
        self.handler = handler
        self.context = context
    }

    /// A backend that drops a URB instead of completing it breaks its promise; its submitter hears of it all the same.
    deinit {
        guard let device else { return }
        var replacement = URB(
            endpoint: endpoint,
            setup: setup,
            buffer: nil,
            requestedLength: requestedLength,
            handler: handler,
            context: context
        )
        replacement.operation = operation
        replacement.token = token
        replacement.device = device
        replacement.charge = charge
        replacement.complete(.io)
    }

    /// The direction of the data: the setup packet's for control transfers, else the endpoint's.
    package var direction: TransferDirection { setup?.direction ?? endpoint.direction }

    /// Bytes that its buffer can hold; 0 without one.
    package var bufferCapacity: Int {
        switch buffer {
        case .some(let buffer): buffer.capacity
        case .none: 0
        }
    }

    /// 0 unless isochronous.
    package var packetCount: Int {
        switch packets {
        case .some(let packets): packets.count
        case .none: 0
        }
    }

    /// Nil where the URB has no such packet.
    package func packet(at index: Int) -> IsoPacket? {
        switch packets {
        case .some(let packets): index >= 0 && index < packets.count ? packets[index] : nil
        case .none: nil
        }
    }

    /// Ends an IN transfer with these bytes in the place of what the source has brought.
    mutating func take(_ report: [UInt8]) {
        let isShort = report.count < requestedLength && flags.contains(.shortNotOK)
        status = report.count > requestedLength ? .babble : isShort ? .shortNotOK : .success
        actualLength = min(report.count, requestedLength, bufferCapacity)
        buffer?.copy(Array(report.prefix(actualLength)))
    }

    /// Ends an IN transfer as one that was cancelled before anything came.
    mutating func empty() {
        status = .cancelled
        actualLength = 0
    }

    /// Gives the URB back to its submitter: the end of its life at a backend. `actualLength` is clamped to what was
    /// asked for.
    package consuming func complete(_ status: URBStatus, actualLength: Int = 0) {
        self.status = status
        self.actualLength = min(max(0, actualLength), requestedLength)
        if status == .success && flags.contains(.shortNotOK) && direction == .in && actualLength < requestedLength {
            self.status = .shortNotOK
        }
        if let device = device.take() {
            device.urbCompleted(self)
        } else {
            let handler = handler
            handler.urbCompleted(self)
        }
    }
}
