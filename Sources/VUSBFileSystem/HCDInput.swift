// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Where in the stream of a guest's records the last write ended. Who carries a write out owns it alone, meanwhile.
struct HCDInput: ~Copyable, Sendable {
    enum Phase {
        case head
        case payload
        case padding
    }

    private(set) var phase = Phase.head
    /// Of a record that a write cut in its fixed part.
    private var head = InlineArray<48, UInt8>(repeating: 0)
    private var headCount = 0
    /// The record that is coming in.
    private(set) var record = HCDRecord(.hello)
    private var payloadLeft = 0
    private var paddingLeft = 0
    /// Of a hello.
    private var name = InlineArray<64, UInt8>(repeating: 0)
    private var nameCount = 0
    /// Of a submit.
    private var assembly: HCDAssembly?

    /// Takes bytes of a record's fixed part; returns how many. `phase` isn't `head` any more when it is whole: the
    /// caller then says `expect` or `skipPayload`.
    mutating func takeHead(_ data: borrowing WriteData, at position: Int) -> Int {
        if headCount == 0, let whole = data.record(at: position) {
            record = whole
            phase = .payload
            return HCDRecord.byteCount
        }
        let count = min(HCDRecord.byteCount - headCount, data.count - position)
        var span = head.mutableSpan
        unsafe span.withUnsafeMutableBytes { target in
            guard let base = target.baseAddress else { return }
            unsafe data.copy(from: position, count: count, to: base + headCount)
        }
        headCount += count
        guard headCount == HCDRecord.byteCount else { return count }
        record = unsafe head.span.withUnsafeBytes { source in
            unsafe source.baseAddress.map { unsafe HCDRecord(reading: $0) } ?? record
        }
        headCount = 0
        phase = .payload
        return count
    }

    /// Nothing was kept of a record so far.
    var isBetweenRecords: Bool { if case .head = phase { headCount == 0 } else { false } }

    /// The fixed part is right: its payload comes next.
    mutating func expectPayload(_ assembly: consuming HCDAssembly? = nil) {
        self.assembly = consume assembly
        payloadLeft = record.payloadSize
        paddingLeft = HCDRecord.padding(Int(record.size))
        nameCount = 0
    }

    /// Takes bytes of the payload; returns how many. True where the payload is whole.
    mutating func takePayload(
        _ data: borrowing WriteData,
        at position: Int
    ) -> (taken: Int, isWhole: Bool) {
        let count = min(payloadLeft, data.count - position)
        if record.kind == .submit {
            let isLast = position + payloadLeft + paddingLeft == data.count
            assembly?.take(data, at: position, count: count, isLast: isLast && count == payloadLeft)
        } else {
            takeName(data, at: position, count: count)
        }
        payloadLeft -= count
        if payloadLeft == 0 { phase = paddingLeft == 0 ? .head : .padding }
        return (count, payloadLeft == 0)
    }

    mutating func takePadding(_ available: Int) -> Int {
        let count = min(paddingLeft, available)
        paddingLeft -= count
        if paddingLeft == 0 { phase = .head }
        return count
    }

    mutating func takeAssembly() -> HCDAssembly? { assembly.take() }

    /// What the guest calls itself: printable ASCII, all else as dots, because it ends in logs and on terminals.
    var peerName: String {
        var text = ""
        for index in 0..<nameCount {
            let byte = name[index]
            text.unicodeScalars.append((0x20..<0x7f).contains(byte) ? Unicode.Scalar(byte) : ".")
        }
        return text
    }

    private mutating func takeName(_ data: borrowing WriteData, at position: Int, count: Int) {
        let room = min(count, name.count - nameCount)
        let start = nameCount
        var span = name.mutableSpan
        unsafe span.withUnsafeMutableBytes { target in
            guard let base = target.baseAddress else { return }
            unsafe data.copy(from: position, count: room, to: base + start)
        }
        nameCount += room
    }
}
