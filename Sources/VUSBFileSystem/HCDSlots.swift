// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A URB of a channel, from the first byte of its submit to the last byte of its completion.
struct HCDSlot: ~Copyable {
    enum Phase: Equatable {
        case free
        /// Its record is coming in.
        case receiving
        /// `VirtualDevice.submit` hasn't returned.
        case submitting(isCancelled: Bool)
        case inFlight(URBToken)
        /// In the outbox.
        case finished
        /// Its completion was read in part.
        case sending
    }

    var phase = Phase.free
    var id: UInt64 = 0
    /// The device's handle.
    var device: UInt16 = 0
    /// Of the credit.
    var bytes = 0
    /// Once finished, until it is sent.
    var urb: URB?
    var status: Int32 = 0
    /// Bytes of data that the completion carries.
    var dataCount = 0
}

/// The slots of a channel and the credit that they are. They are made once; nothing is allocated for a URB.
@safe
struct HCDSlots: ~Copyable, @unchecked Sendable {
    // SAFETY: the memory has this value as its only owner; `HCDSession` guards it with its Mutex.
    private let base: UnsafeMutablePointer<HCDSlot>
    private(set) var inUse = 0
    private(set) var bytesInUse = 0

    init() {
        unsafe base = UnsafeMutablePointer<HCDSlot>.allocate(capacity: HCDLimits.urbs)
        for index in 0..<HCDLimits.urbs { unsafe (base + index).initialize(to: HCDSlot()) }
    }

    deinit {
        unsafe base.deinitialize(count: HCDLimits.urbs)
        unsafe base.deallocate()
    }

    subscript(index: Int) -> HCDSlot {
        _read {
            precondition(index >= 0 && index < HCDLimits.urbs)
            yield unsafe base[index]
        }
        _modify {
            precondition(index >= 0 && index < HCDLimits.urbs)
            yield unsafe &base[index]
        }
    }

    /// Takes the slot that `id` names (row C3).
    mutating func take(_ id: UInt64, device: UInt16, bytes: Int) throws(HCDViolation) {
        let index = Int(UInt16(truncatingIfNeeded: id))
        guard index < HCDLimits.urbs else { throw HCDViolation("submit on slot \(index), beyond the hello's urbs") }
        guard self[index].phase == .free else { throw HCDViolation("submit on slot \(index), which isn't free") }
        guard bytesInUse + bytes <= HCDLimits.bytes else { throw HCDViolation("submit beyond the hello's bytes") }
        self[index].phase = .receiving
        self[index].id = id
        self[index].device = device
        self[index].bytes = bytes
        inUse += 1
        bytesInUse += bytes
    }

    /// The credit is back; the URB, where there is one, is the caller's.
    mutating func free(_ index: Int) {
        guard self[index].phase != .free else { return }
        self[index].phase = .free
        inUse -= 1
        bytesInUse -= self[index].bytes
    }

    /// Marks the URB in the slot as cancelled; the token that is to be cancelled now, where there is one.
    mutating func cancel(_ index: Int) -> URBToken? {
        switch self[index].phase {
        case .inFlight(let token): return token
        case .submitting: self[index].phase = .submitting(isCancelled: true)
        case .free, .receiving, .finished, .sending: break
        }
        return nil
    }
}
