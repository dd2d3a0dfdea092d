// SPDX-License-Identifier: Apache-2.0

/// The URBs of one lane that are held back or counted in flight: a row for each index of the device's URB table, linked
/// into lists. A value without a lock of its own. No allocation once it has grown to what is in use at once.
struct LaneSlots {
    enum Place: Equatable {
        case none
        case held
        case inFlight
        /// In flight for so long that it waits for its device: not counted.
        case parked
    }

    struct Slot {
        var place = Place.none
        var token = URBToken.none
        var endpoint = EndpointAddress.control
        var length = 0
        /// When it was held back, or passed.
        var since: UInt64 = 0
        var charge: URB.Charge = []
        /// Made with the first URB that is held back in this row, and kept.
        var box: HeldURBSlot?
        fileprivate var next = -1
        fileprivate var previous = -1
    }

    /// Oldest first.
    struct List {
        fileprivate(set) var first = -1
        fileprivate var last = -1
        var isEmpty: Bool { first < 0 }
    }

    private var slots: [Slot] = []

    subscript(index: Int) -> Slot {
        _read { yield slots[index] }
        _modify { yield &slots[index] }
    }

    /// The row of a URB that is here; nil for a token that isn't current.
    func index(of token: URBToken) -> Int? {
        guard token.index < slots.count, slots[token.index].token == token, slots[token.index].place != .none
        else { return nil }
        return token.index
    }

    mutating func append(
        _ token: URBToken, _ endpoint: EndpointAddress, length: Int, since: UInt64, as place: Place,
        to list: inout List
    ) {
        while slots.count <= token.index { slots.append(Slot()) }
        let index = token.index
        slots[index].token = token
        slots[index].endpoint = endpoint
        slots[index].length = length
        slots[index].since = since
        slots[index].charge = []
        link(index, as: place, to: &list)
    }

    mutating func link(_ index: Int, as place: Place, to list: inout List) {
        slots[index].place = place
        slots[index].next = -1
        slots[index].previous = list.last
        if list.last >= 0 { slots[list.last].next = index } else { list.first = index }
        list.last = index
    }

    mutating func unlink(_ index: Int, as place: Place, from list: inout List) {
        let (previous, next) = (slots[index].previous, slots[index].next)
        if previous >= 0 { slots[previous].next = next } else { list.first = next }
        if next >= 0 { slots[next].previous = previous } else { list.last = previous }
        slots[index].place = place
    }

    /// The first in `list` whose endpoint has its bit (`EndpointAddress.index`) in `endpoints`.
    func first(on endpoints: UInt32, in list: List) -> Int? {
        var index = list.first
        while index >= 0 {
            if endpoints & (1 << UInt32(slots[index].endpoint.index)) != 0 { return index }
            index = slots[index].next
        }
        return nil
    }
}
