// SPDX-License-Identifier: Apache-2.0

/// UNLINKs that come before the SUBMIT which they mean. Linux's `vhci-hcd` sends those of a driver that submits a transfer and
/// takes it back at once in this order, now and then, as its sending thread looks at the one queue and then at the other. Its
/// numbers have no gaps: one that is missing between the last that came and the UNLINK's own is yet to come.
struct USBIPEarlyUnlinks {
    private struct Kept {
        var seqnum: UInt32
        var target: UInt32
    }

    /// A peer that sends more gets answers as for what never was.
    private static let most = 64

    private var kept: [Kept] = []
    /// The greatest number that has come.
    private var last: UInt32?

    var isEmpty: Bool { kept.isEmpty }

    /// Numbers begin anew after the last one.
    private static func isBefore(_ first: UInt32, _ second: UInt32) -> Bool {
        Int32(bitPattern: first &- second) < 0
    }

    mutating func note(_ seqnum: UInt32) {
        if let last, !Self.isBefore(last, seqnum) { return }
        last = seqnum
    }

    /// Whether the target of an UNLINK is yet to come.
    func isAhead(of target: UInt32, by seqnum: UInt32) -> Bool {
        guard let last else { return false }
        return Self.isBefore(last, target) && Self.isBefore(target, seqnum)
    }

    /// - Returns: false where it can't.
    mutating func keep(_ seqnum: UInt32, of target: UInt32) -> Bool {
        guard kept.count < Self.most, !kept.contains(where: { $0.target == target }) else { return false }
        kept.append(Kept(seqnum: seqnum, target: target))
        return true
    }

    /// The one that means this SUBMIT.
    mutating func take(of target: UInt32) -> UInt32? {
        guard let index = kept.firstIndex(where: { $0.target == target }) else { return nil }
        return kept.remove(at: index).seqnum
    }

    /// Those whose SUBMIT doesn't come any more: SUBMITs come in order.
    mutating func takeAll(before seqnum: UInt32) -> [UInt32] {
        let stale = kept.filter { Self.isBefore($0.target, seqnum) }.map(\.seqnum)
        kept.removeAll { Self.isBefore($0.target, seqnum) }
        return stale
    }
}
