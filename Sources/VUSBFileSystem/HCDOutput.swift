// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import VUSBCore

/// What one read of a channel is answered with: pieces of records, in order. Heads, packet tables, padding and small
/// data lie in an arena, large data where the source put them. Who answers a read owns it alone, meanwhile.
@safe
struct HCDOutput: ~Copyable, @unchecked Sendable {
    // SAFETY: the memory has this value as its only owner, and one thread at a time has the value.
    private let arena: UnsafeMutableRawPointer
    private let parts: UnsafeMutablePointer<iovec>
    private let urbs: UnsafeMutablePointer<URB?>
    private var arenaUsed = 0
    private var partCount = 0
    private var urbCount = 0
    /// Bytes of the answer.
    private(set) var count = 0

    /// The record that is being handed over.
    private var record = HCDRecord(.complete)
    private var urb: URB?
    private var dataCount = 0
    /// Bytes of it that were handed over; nil where there is none.
    private var sent: Int?
    /// Of a completion, to be freed with its last byte.
    private(set) var slot: Int?

    static let arenaSize = 64 << 10
    /// Completions in one answer.
    static let maximumURBs = 64
    /// Three for each: what is in the arena, the data, the padding. The padding joins the next head.
    private static let maximumParts = 3 * maximumURBs + 4
    /// Below this a copy costs less than another piece.
    private static let copyLimit = 512
    /// What a record may take in the arena beside its packet table.
    private static let reserve = HCDRecord.byteCount + copyLimit + 2 * HCDRecord.alignment

    init() {
        unsafe arena = .allocate(byteCount: Self.arenaSize, alignment: BufferPool.pageSize)
        unsafe parts = .allocate(capacity: Self.maximumParts)
        unsafe urbs = .allocate(capacity: Self.maximumURBs)
    }

    deinit {
        unsafe urbs.deinitialize(count: urbCount)
        unsafe urbs.deallocate()
        unsafe parts.deallocate()
        unsafe arena.deallocate()
    }

    var isEmpty: Bool { sent == nil }

    /// Begins a record; the last one must be at its end.
    mutating func begin(_ record: HCDRecord) {
        self.record = record
        dataCount = 0
        slot = nil
        sent = 0
    }

    mutating func begin(_ record: HCDRecord, urb: consuming URB?, dataCount: Int, slot: Int) {
        self.record = record
        self.urb = consume urb
        self.dataCount = dataCount
        self.slot = slot
        sent = 0
    }

    /// Adds as much of the record as fits into an answer of `size` bytes.
    /// - Returns: true when its last byte is in; false where the answer is full.
    mutating func emit(size: Int) -> Bool {
        guard var sent else { return true }
        let tableCount = urb.packetCount * HCDPacket.byteCount
        guard arenaUsed + Self.reserve + tableCount <= Self.arenaSize, urbCount < Self.maximumURBs else { return false }
        let headCount = HCDRecord.byteCount + tableCount
        let total = headCount + dataCount
        if sent < headCount { sent += addHead(tableCount, from: sent, room: size - count) }
        if sent >= headCount, sent < total { sent += addData(from: sent - headCount, room: size - count) }
        if sent >= total {
            let padding = total + HCDRecord.padding(total) - sent
            let length = min(padding, size - count)
            unsafe (arena + arenaUsed).initializeMemory(as: UInt8.self, repeating: 0, count: length)
            addArena(skipping: 0, count: length, used: length)
            sent += length
        }
        self.sent = sent
        guard sent == total + HCDRecord.padding(total) else { return false }
        finish()
        return true
    }

    /// The answer's pieces, valid until `clear`.
    @unsafe var pieces: UnsafeBufferPointer<iovec> { unsafe UnsafeBufferPointer(start: parts, count: partCount) }

    /// The answer as a copy.
    borrowing func bytes() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        for index in 0..<partCount {
            // SAFETY: partCount pieces are initialized, and what they name lives until `clear`.
            unsafe bytes += UnsafeRawBufferPointer(start: parts[index].iov_base, count: Int(parts[index].iov_len))
        }
        return bytes
    }

    /// The answer was given: buffers go back, but for that of a record of which there is more to come.
    mutating func clear() {
        unsafe urbs.deinitialize(count: urbCount)
        urbCount = 0
        partCount = 0
        arenaUsed = 0
        count = 0
    }

    // MARK: - Pieces

    /// The head is put together anew where a read begins in the middle of it.
    private mutating func addHead(_ tableCount: Int, from start: Int, room: Int) -> Int {
        let target = unsafe arena + arenaUsed
        unsafe record.write(to: target)
        for index in 0..<urb.packetCount {
            guard let packet = urb.packet(index) else { continue }
            unsafe HCDPacket.write(packet, to: target + HCDRecord.byteCount + index * HCDPacket.byteCount)
        }
        let whole = HCDRecord.byteCount + tableCount
        let length = min(whole - start, room)
        addArena(skipping: start, count: length, used: whole)
        return length
    }

    private mutating func addData(from start: Int, room: Int) -> Int {
        let length = min(dataCount - start, room)
        guard length > 0, let base = unsafe urb.baseAddress else { return 0 }
        if length <= Self.copyLimit {
            unsafe (arena + arenaUsed).copyMemory(from: base + start, byteCount: length)
            addArena(skipping: 0, count: length, used: length)
        } else {
            unsafe add(base + start, length)
        }
        return length
    }

    private mutating func addArena(skipping: Int, count length: Int, used: Int) {
        unsafe add(arena + arenaUsed + skipping, length)
        arenaUsed += used
    }

    /// A piece that begins where the last one ends makes it longer.
    @unsafe
    private mutating func add(_ start: UnsafeMutableRawPointer, _ length: Int) {
        guard length > 0 else { return }
        count += length
        if partCount > 0, let last = unsafe parts[partCount - 1].iov_base,
            unsafe last + Int(parts[partCount - 1].iov_len) == start
        {
            unsafe parts[partCount - 1].iov_len += length
            return
        }
        unsafe (parts + partCount).initialize(to: iovec(iov_base: start, iov_len: length))
        partCount += 1
    }

    private mutating func finish() {
        sent = nil
        unsafe (urbs + urbCount).initialize(to: urb.take())
        urbCount += 1
    }
}

extension Optional where Wrapped == URB {
    fileprivate var packetCount: Int {
        switch self {
        case .some(let urb): urb.packetCount
        case .none: 0
        }
    }

    fileprivate func packet(_ index: Int) -> IsoPacket? {
        switch self {
        case .some(let urb): urb.packet(at: index)
        case .none: nil
        }
    }
}
