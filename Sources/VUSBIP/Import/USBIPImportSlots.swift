// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A URB of an import's session, from its submit until nothing more is to be heard of it.
struct USBIPImportSlot: ~Copyable {
    enum Phase: Equatable {
        case free
        /// Accepted, not sent.
        case waiting
        case sent
        /// Its answer is coming in.
        case receiving
        /// Given back: the answer to its UNLINK is awaited.
        case ended
    }

    var phase = Phase.free
    var generation: UInt32 = 0
    /// As `cancel` knows it; `.none` for one of this host's own.
    var token = URBToken.none
    var endpoint = EndpointAddress.control
    var length = 0
    /// It changes settings: S5 of Imports.md.
    var isChange = false
    /// This host's own, which nobody cancels.
    var isOwn = false
    var seqnum: UInt32 = 0
    /// What it ends with where it's cancelled; nil where nobody has cancelled it.
    var ending: URBStatus?
    /// The seqnum of its UNLINK; nil where none was sent.
    var unlink: UInt32?
    /// The first time; nil where nobody has cancelled it.
    var cancelledAt: ContinuousClock.Instant?
    /// The slot's, but while the loop writes it or it is received.
    var urb: URB?
}

/// The slots of a session. A slot is named by its index and the generation of its use.
struct USBIPImportSlots: ~Copyable {
    private var memory = USBIPSlotMemory { USBIPImportSlot() }
    /// By a token's index: the slot of its URB, or -1.
    private var byToken: [Int] = []

    var inUse: Int { memory.inUse }

    subscript(index: Int) -> USBIPImportSlot {
        _read { yield memory[index] }
        _modify { yield &memory[index] }
    }

    func name(of index: Int) -> URBToken { URBToken(index: index, generation: self[index].generation) }

    /// Whether it's the same use of the slot.
    func isCurrent(_ slot: URBToken) -> Bool {
        self[slot.index].generation == slot.generation && self[slot.index].phase != .free
    }

    /// Nil where all are in use. The URB is still the caller's.
    mutating func take(_ urb: borrowing URB, isOwn: Bool) -> URBToken? {
        guard let index = memory.take() else { return nil }
        self[index].generation = self[index].generation == .max ? 1 : self[index].generation + 1
        self[index].phase = .waiting
        self[index].token = urb.token
        self[index].endpoint = urb.endpoint
        self[index].length = urb.requestedLength
        self[index].isChange = urb.isUSBIPChange
        self[index].isOwn = isOwn
        self[index].ending = nil
        self[index].unlink = nil
        self[index].cancelledAt = nil
        if !isOwn { remember(index, urb.token) }
        return name(of: index)
    }

    private mutating func remember(_ index: Int, _ token: URBToken) {
        while byToken.count <= token.index { byToken.append(-1) }
        byToken[token.index] = index
    }

    /// The slot of a URB that hasn't been given back.
    func slot(of token: URBToken) -> Int? {
        guard token != .none, token.index < byToken.count else { return nil }
        let index = byToken[token.index]
        guard index >= 0, self[index].phase != .free, self[index].token == token else { return nil }
        return index
    }

    mutating func release(_ index: Int) {
        self[index].phase = .free
        memory.giveBack(index)
    }
}

extension URB {
    /// SET_CONFIGURATION or SET_INTERFACE.
    var isUSBIPChange: Bool {
        switch operation {
        case .setConfiguration, .setInterface: true
        case .transfer, .clearHalt: false
        }
    }
}
