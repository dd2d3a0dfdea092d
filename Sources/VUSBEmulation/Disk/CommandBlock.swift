// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// A SCSI command descriptor block, big-endian; bytes behind its length are 0.
struct CommandBlock: Sendable {
    private var storage = InlineArray<16, UInt8>(repeating: 0)
    let count: Int

    /// At most 16 bytes of `span`, from `start` on.
    init(_ span: borrowing Span<UInt8>, from start: Int, count: Int) {
        self.count = min(16, count, span.count - start)
        for index in 0..<self.count { storage[index] = span[start + index] }
    }

    subscript(index: Int) -> UInt8 { storage[index] }
    var operation: UInt8 { storage[0] }

    /// A number of 1 to 8 bytes.
    func number(at start: Int, bytes: Int) -> UInt64 {
        (start..<start + bytes).reduce(0) { $0 << 8 | UInt64(storage[$1]) }
    }
}

/// A command block wrapper (Bulk-Only Transport 1.0, 5.1), valid and meaningful (6.2).
struct CommandWrapper: Sendable {
    static let byteCount = 31

    let tag: UInt32
    /// `dCBWDataTransferLength`: what the host means to move.
    let dataLength: UInt32
    let direction: TransferDirection
    let command: CommandBlock

    /// Nil unless it has 31 bytes and the signature, names LUN 0 and has a command of 1 to 16 bytes.
    init?(_ span: borrowing Span<UInt8>) {
        guard span.count == Self.byteCount,
            span[0] == 0x55, span[1] == 0x53, span[2] == 0x42, span[3] == 0x43,
            span[12] & 0x7f == 0, span[13] == 0, (1...16).contains(span[14])
        else { return nil }
        tag = Self.word(span, 4)
        dataLength = Self.word(span, 8)
        direction = span[12] & 0x80 != 0 ? .in : .out
        command = CommandBlock(span, from: 15, count: Int(span[14]))
    }

    private static func word(_ span: borrowing Span<UInt8>, _ start: Int) -> UInt32 {
        UInt32(span[start]) | UInt32(span[start + 1]) << 8 | UInt32(span[start + 2]) << 16
            | UInt32(span[start + 3]) << 24
    }
}

/// A command status wrapper (Bulk-Only Transport 1.0, 5.2).
struct StatusWrapper: Sendable {
    static let byteCount = 13

    enum Status: UInt8, Sendable {
        case passed = 0
        case failed = 1
        case phaseError = 2
    }

    var tag: UInt32
    var residue: UInt32
    var status: Status

    /// Byte `index` of the 13: an array would cost an allocation a command.
    func byte(at index: Int) -> UInt8 {
        switch index {
        case 0...3: UInt8(truncatingIfNeeded: UInt32(0x5342_5355) >> UInt32(8 * index))
        case 4...7: UInt8(truncatingIfNeeded: tag >> UInt32(8 * (index - 4)))
        case 8...11: UInt8(truncatingIfNeeded: residue >> UInt32(8 * (index - 8)))
        default: status.rawValue
        }
    }
}
