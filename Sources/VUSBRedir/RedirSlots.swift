// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A URB of a connection, until its answer is sent.
struct RedirSlot: ~Copyable {
    enum Phase: Equatable {
        case free
        /// An isochronous OUT URB to which packets are added, or which waits for its turn.
        case filling
        /// `VirtualDevice.submit` hasn't returned.
        case submitting(isCancelled: Bool)
        case inFlight(URBToken)
        /// In the outbox, or waiting for its turn to be.
        case finished
    }

    enum Purpose: Equatable {
        case transfer(RedirTransfer)
        case setConfiguration(id: UInt64)
        case setInterface(id: UInt64, interface: UInt8, alternate: UInt8)
        /// By the endpoint's index, and the stream's generation.
        case stream(Int, generation: Int)
    }

    var phase = Phase.free
    var purpose = Purpose.setConfiguration(id: 0)
    /// Tells its URB from those that had the slot before.
    var serial: UInt64 = 0
    /// The peer has cancelled it, and was told so at once.
    var isAnswered = false

    /// Once finished: bytes of its header in `RedirSlots`; 0 for an isochronous one.
    var headerCount = 0
    /// Isochronous: the packets' headers, one after the other.
    var headers: TransferBuffer?
    var urb: URB?
    /// Bytes of data that are sent.
    var dataCount = 0
    /// Bytes that are sent in all.
    var byteCount = 0

    // While it's being filled.
    var buffer: TransferBuffer?
    var packets: IsoPacketTable?
    var filled = 0
}

extension RedirSlot {
    /// Where its URB's data begin; valid as long as the URB is in the slot.
    var data: UnsafeMutableRawPointer? {
        @unsafe get {
            switch urb {
            case .some(let urb): unsafe urb.bufferStart
            case .none: nil
            }
        }
    }

    /// The isochronous packets' headers; valid as long as they are in the slot.
    var headerBytes: UnsafeMutableRawPointer? {
        @unsafe get {
            switch headers {
            case .some(let headers): unsafe headers.baseAddress
            case .none: nil
            }
        }
    }

    var packetCount: Int {
        switch urb {
        case .some(let urb): urb.packetCount
        case .none: 0
        }
    }

    func packet(at index: Int) -> IsoPacket? {
        switch urb {
        case .some(let urb): urb.packet(at: index)
        case .none: nil
        }
    }
}

extension URB {
    /// Nil without a buffer.
    var bufferStart: UnsafeMutableRawPointer? {
        @unsafe get {
            switch buffer {
            case .some(let buffer): unsafe buffer.baseAddress
            case .none: nil
            }
        }
    }
}

/// The slots of a connection, made once: nothing is allocated for a URB.
@safe
struct RedirSlots: ~Copyable, @unchecked Sendable {
    // SAFETY: the memory has this value as its only owner; `RedirSession` guards it with its Mutex.
    private let base: UnsafeMutablePointer<RedirSlot>
    private let headerBase: UnsafeMutablePointer<UInt8>
    private var lastSerial: UInt64 = 0
    private var free: [Int]
    private(set) var inUse = 0

    init() {
        unsafe base = UnsafeMutablePointer<RedirSlot>.allocate(capacity: RedirLimits.urbs)
        unsafe headerBase = UnsafeMutablePointer<UInt8>.allocate(capacity: RedirLimits.urbs * RedirHeader.longest)
        for index in 0..<RedirLimits.urbs { unsafe (base + index).initialize(to: RedirSlot()) }
        free = Array((0..<RedirLimits.urbs).reversed())
    }

    deinit {
        unsafe base.deinitialize(count: RedirLimits.urbs)
        unsafe base.deallocate()
        unsafe headerBase.deallocate()
    }

    subscript(index: Int) -> RedirSlot {
        _read {
            precondition(index >= 0 && index < RedirLimits.urbs)
            yield unsafe base[index]
        }
        _modify {
            precondition(index >= 0 && index < RedirLimits.urbs)
            yield unsafe &base[index]
        }
    }

    /// Nil where all are in use.
    mutating func take(_ purpose: RedirSlot.Purpose, _ phase: RedirSlot.Phase) -> Int? {
        guard let index = free.popLast() else { return nil }
        self[index].purpose = purpose
        self[index].phase = phase
        self[index].isAnswered = false
        lastSerial += 1
        self[index].serial = lastSerial
        inUse += 1
        return index
    }

    /// The URB and the buffers in it must have been taken out.
    mutating func release(_ index: Int) {
        guard self[index].phase != .free else { return }
        self[index].phase = .free
        inUse -= 1
        free.append(index)
    }

    mutating func setHeader(_ header: RedirHeader, of index: Int) {
        for position in 0..<header.count { unsafe self.header(of: index)[position] = header.bytes[position] }
        self[index].headerCount = header.count
    }

    /// Valid until the slot is released.
    @unsafe
    func header(of index: Int) -> UnsafeMutablePointer<UInt8> { unsafe headerBase + index * RedirHeader.longest }

    /// Marks the URB in the slot as cancelled; the token that is to be cancelled now, where there is one.
    mutating func cancel(_ index: Int) -> URBToken? {
        switch self[index].phase {
        case .inFlight(let token): return token
        case .submitting: self[index].phase = .submitting(isCancelled: true)
        case .free, .filling, .finished: break
        }
        return nil
    }
}
