// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A URB of a session, from its submit until its answer is in the batch.
struct USBIPSlot: ~Copyable {
    enum Phase: Equatable {
        case free
        /// `VirtualDevice.submit` hasn't returned.
        case submitting
        case inFlight(URBToken)
        /// The URB is here.
        case finished
    }

    var phase = Phase.free
    var seqnum: UInt32 = 0
    var wirePacketCount: UInt32 = 0
    /// The seqnum of the UNLINK that waits for its end.
    var unlink: UInt32?
    /// Where its data come in, for those that are sent from there.
    var memory: USBIPMemory?
    var urb: URB?
}

/// What is answered: all of a slot that has been released.
struct USBIPFinished: ~Copyable {
    let seqnum: UInt32
    let wirePacketCount: UInt32
    let unlink: UInt32?
    let memory: USBIPMemory?
    var urb: URB?

    /// Bytes that it has asked for.
    var length: Int {
        switch urb {
        case .some(let urb): urb.requestedLength
        case .none: 0
        }
    }

    /// A driver polls interrupt endpoints all the time: what they bring isn't its guest's work with the device.
    var isUse: Bool {
        switch urb {
        case .some(let urb): urb.operation != .transfer(.interrupt) || urb.direction == .out
        case .none: false
        }
    }
}

/// The slots of a session.
struct USBIPSlots: ~Copyable {
    private var slots = USBIPSlotMemory { USBIPSlot() }

    var inUse: Int { slots.inUse }

    /// How many URBs haven't ended.
    var unfinished: Int {
        (0..<USBIPLimits.urbs).count { self[$0].phase != .free && self[$0].phase != .finished }
    }

    subscript(index: Int) -> USBIPSlot {
        _read { yield slots[index] }
        _modify { yield &slots[index] }
    }

    /// Nil where all are in use.
    mutating func take(_ submit: USBIPSubmit, _ memory: USBIPMemory?) -> Int? {
        guard let index = slots.take() else { return nil }
        self[index].phase = .submitting
        self[index].seqnum = submit.seqnum
        self[index].wirePacketCount = submit.wirePacketCount
        self[index].memory = memory
        return index
    }

    /// Takes all out of a slot whose URB has ended.
    mutating func release(_ index: Int) -> USBIPFinished {
        let finished = USBIPFinished(
            seqnum: self[index].seqnum, wirePacketCount: self[index].wirePacketCount,
            unlink: self[index].unlink.take(), memory: self[index].memory.take(), urb: self[index].urb.take())
        self[index].phase = .free
        slots.giveBack(index)
        return finished
    }

    /// Of all that are in flight.
    var tokens: [URBToken] {
        (0..<USBIPLimits.urbs).compactMap { index in
            guard case .inFlight(let token) = self[index].phase else { return nil }
            return token
        }
    }
}
