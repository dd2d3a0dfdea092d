// SPDX-License-Identifier: Apache-2.0

/// What an importer hears.
enum USBIPHeard: Equatable, Sendable {
    struct Packet: Equatable, Sendable {
        var offset: UInt32
        var length: UInt32
        var actualLength: UInt32
        var status: Int32
    }

    struct Reply: Equatable, Sendable {
        var seqnum: UInt32
        var status: Int32 = 0
        var length: Int = 0
        var data: [UInt8] = []
        var packetCount: UInt32 = 0xffff_ffff
        var packets: [Packet] = []
        var startFrame: UInt32 = 0
        var errorCount: UInt32 = 0
    }

    /// OP_REP_IMPORT; the record is empty but for status 0.
    case imported(status: UInt32, record: [UInt8])
    case submit(Reply)
    case unlink(UInt32, Int32)
    /// What isn't an answer.
    case nonsense([UInt8])
    /// The connection has ended.
    case closed

    /// An answer with data.
    static func done(
        _ seqnum: UInt32, _ data: [UInt8], status: Int32 = 0, packetCount: UInt32 = 0xffff_ffff
    ) -> USBIPHeard {
        .submit(Reply(seqnum: seqnum, status: status, length: data.count, data: data, packetCount: packetCount))
    }

    /// One without.
    static func done(_ seqnum: UInt32, _ status: Int32 = 0, length: Int = 0) -> USBIPHeard {
        .submit(Reply(seqnum: seqnum, status: status, length: length))
    }
}

/// Takes a server's answers apart, as they come.
struct USBIPHeardParser {
    private var bytes: [UInt8] = []
    private var start = 0
    private var hasImported: Bool

    /// - Parameter hasImported: there is no answer to an import to come.
    init(hasImported: Bool = false) { self.hasImported = hasImported }

    private var count: Int { bytes.count - start }

    private func word(_ offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 << 8 | UInt32(bytes[start + offset + $1]) }
    }

    private func signed(_ offset: Int) -> Int32 { Int32(bitPattern: word(offset)) }

    /// - Parameter isIn: whether the SUBMIT with this seqnum was of an IN transfer.
    mutating func parse(_ more: [UInt8], isIn: (UInt32) -> Bool) -> [USBIPHeard] {
        // What was taken is dropped now and then only: dropping costs a copy.
        if start > bytes.count / 2 {
            bytes.removeFirst(start)
            start = 0
        }
        bytes += more
        var heard: [USBIPHeard] = []
        while let next = next(isIn) { heard.append(next) }
        return heard
    }

    private mutating func next(_ isIn: (UInt32) -> Bool) -> USBIPHeard? {
        guard hasImported else { return nextOperation() }
        guard count >= 48 else { return nil }
        switch word(0) {
        case 3: return nextReply(isIn(word(4)))
        case 4:
            defer { start += 48 }
            return .unlink(word(4), signed(20))
        default:
            defer { start = bytes.count }
            return .nonsense(Array(bytes[start...]))
        }
    }

    private mutating func nextOperation() -> USBIPHeard? {
        guard count >= 8 else { return nil }
        let status = word(4)
        guard word(0) == 0x0111_0003 else {
            defer { start = bytes.count }
            return .nonsense(Array(bytes[start...]))
        }
        let length = status == 0 ? 8 + 312 : 8
        guard count >= length else { return nil }
        defer { start += length }
        hasImported = true
        return .imported(status: status, record: Array(bytes[(start + 8)..<(start + length)]))
    }

    private mutating func nextReply(_ isIn: Bool) -> USBIPHeard? {
        let length = Int(word(24))
        let packetCount = word(32)
        let dataCount = isIn ? length : 0
        let packets = packetCount == 0xffff_ffff ? 0 : Int(packetCount)
        guard count >= 48 + dataCount + 16 * packets else { return nil }
        var reply = USBIPHeard.Reply(seqnum: word(4), status: signed(20), length: length)
        reply.startFrame = word(28)
        reply.packetCount = packetCount
        reply.errorCount = word(36)
        reply.data = Array(bytes[(start + 48)..<(start + 48 + dataCount)])
        reply.packets = (0..<packets).map { index in
            let offset = 48 + dataCount + 16 * index
            return USBIPHeard.Packet(
                offset: word(offset), length: word(offset + 4), actualLength: word(offset + 8),
                status: signed(offset + 12))
        }
        start += 48 + dataCount + 16 * packets
        return .submit(reply)
    }
}
