// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A URB of a caller, from SUBMITURB until it's reaped.
struct UsbfsURBSlot: Sendable {
    enum Phase: Equatable {
        case free
        case pending
        case completed
    }

    var phase = Phase.free
    /// Tells it from those that had the slot before.
    var order: UInt64 = 0
    /// Where the caller has it: its name.
    var address: UInt64 = 0
    var layout = UsbfsLayout.native
    var buffer: UInt64 = 0
    var length = 0
    var isShortNotOK = false
    var isDiscarded = false
    /// Its packets are written back.
    var isIsochronous = false

    var transfer = 0
    /// The next of the same chain; -1 for none.
    var next = -1
    /// Where its data begin in the transfer's buffer.
    var offset = 0

    // Once completed.
    var status: Int32 = 0
    var actualLength = 0
    var errorCount = 0
    /// Bytes of data that go to the caller.
    var dataCount = 0
    var packetCount = 0
    var offers = 0
    var progress = UsbfsProgress()
    /// In a copy for the caller whom it's offered or given to: bytes of the data that this one has already.
    var given = 0

    /// What a URB costs beside its data, as far as limits are concerned.
    static let overhead = 512
    var cost: Int { length + Self.overhead }

    /// Whether a round can't carry all of its data.
    var isLong: Bool { dataCount > UsbfsABI.dataLimit }
    var needsMoreRounds: Bool { dataCount - given > UsbfsABI.dataLimit }
    /// Bytes of data of the next round.
    var pieceCount: Int { min(dataCount - given, UsbfsABI.dataLimit) }

    /// The places of the results: the caller's pointer, status, length and error count, packets, and data, or of these
    /// as much as a round carries.
    func ranges(pointerAt argument: UInt64) -> CallerRanges {
        var ranges = CallerRanges()
        let data = CallerRange(start: buffer &+ UInt64(given), count: pieceCount)
        if needsMoreRounds {
            ranges.addOut(data)
            return ranges
        }
        let length = layout.urbLengthOffset
        ranges.addOut(CallerRange(start: argument, count: layout.pointerSize))
        ranges.addOut(CallerRange(start: address &+ 4, count: 4))
        ranges.addOut(CallerRange(start: address &+ UInt64(length + 4), count: 4))
        ranges.addOut(CallerRange(start: address &+ UInt64(length + 16), count: 4))
        if packetCount > 0 {
            let count = packetCount * UsbfsABI.packetSize
            ranges.addOut(CallerRange(start: address &+ UInt64(layout.urbSize), count: count))
        }
        if data.count > 0 { ranges.addOut(data) }
        return ranges
    }

    /// What goes there but packets and data: pointer, status, length, error count.
    var head: UsbfsFields {
        let size = layout.pointerSize
        var fields = UsbfsFields(count: size + 12)
        fields.put(UInt32(truncatingIfNeeded: address), at: 0)
        if layout == .native { fields.put(UInt32(address >> 32), at: 4) }
        fields.put(UInt32(bitPattern: status), at: size)
        fields.put(UInt32(actualLength), at: size + 4)
        fields.put(UInt32(errorCount), at: size + 8)
        return fields
    }
}

/// What each caller has been given of a long IN URB (U25). A piece is in the memory of whoever asked for it, which after a
/// fork isn't the memory of all; and only that caller's next request shows that it has arrived. So each begins with the
/// first piece, and whoever has them all has reaped it.
struct UsbfsProgress: Sendable {
    private var callers: [(caller: Int32, given: Int)] = []
    /// Who is forgotten begins anew.
    private static let limit = 8

    func given(to caller: Int32) -> Int { callers.first { $0.caller == caller }?.given ?? 0 }

    mutating func note(_ given: Int, to caller: Int32) {
        callers.removeAll { $0.caller == caller }
        if callers.count == Self.limit { callers.removeFirst() }
        callers.append((caller, given))
    }
}

/// Offers of completed URBs to callers that reap: which URB a second round is about.
struct UsbfsOffers: Sendable {
    private struct Offer {
        var slot = -1
        var order: UInt64 = 0
        var given = 0
        var outBytes = 0
        var argument: UInt64 = 0
        var caller: Int32 = 0
    }

    /// The sums of the ranges of two offers differ in their remainders by this, unless so many were made in between.
    private static let count = 256
    private var offers = Array(repeating: Offer(), count: count)
    private var next = 0

    /// - Returns: the ranges for the second round; the last of them is never written.
    mutating func make(_ slot: Int, _ urb: UsbfsURBSlot, argument: UInt64, caller: Int32) -> CallerRanges {
        var ranges = urb.ranges(pointerAt: argument)
        next = (next + 1) % Self.count
        let sum = ranges.outBytes
        let padding = (next - sum % Self.count + Self.count) % Self.count
        ranges.addOut(CallerRange(start: argument, count: padding))
        offers[next] = Offer(
            slot: slot, order: urb.order, given: urb.given, outBytes: sum + padding, argument: argument, caller: caller)
        return ranges
    }

    /// - Returns: the slot and the order of the URB that was offered, and what of it had been given then; it may be
    ///   another one's by now.
    func find(outBytes: Int, argument: UInt64, caller: Int32) -> (slot: Int, order: UInt64, given: Int)? {
        let offer = offers[outBytes % Self.count]
        guard offer.slot >= 0, offer.outBytes == outBytes, offer.argument == argument, offer.caller == caller else {
            return nil
        }
        return (offer.slot, offer.order, offer.given)
    }
}
