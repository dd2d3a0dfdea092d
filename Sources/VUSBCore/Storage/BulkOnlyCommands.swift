// SPDX-License-Identifier: Apache-2.0

/// Bulk-Only Transport 1.0: one command at a time, as a wrapper of 31 bytes, perhaps data, a status of 13 bytes.
struct BulkOnlyCommands: StorageTransport {
    private static let wrapperLength = 31
    private static let statusLength = 13

    private let interface: InterfaceNumber
    private var current: PendingCommand?
    /// One that failed, whose reason the host may ask for by REQUEST SENSE. Until then it isn't known to be over.
    private var failed: PendingCommand?

    init(_ interface: InterfaceNumber) { self.interface = interface }

    mutating func willSend(
        _ transfer: StorageTracker.Transfer,
        _ bytes: borrowing Span<UInt8>,
        at now: () -> PendingCommand.Instant,
        _ units: inout [StorageUnit]
    ) {
        // Data of 31 bytes that begin like this count as a wrapper too. It's a guest that would only fool itself.
        guard Self.isWrapper(transfer, bytes) else {
            if current?.command.wantsDataOut == true { current?.take(bytes) }
            return
        }
        current.take()?.end(.void, &units)
        let block = StorageCommandBlock(bytes, from: 15, count: Int(bytes[14] & 0x1f))
        guard let command = StorageCommand.parse(block) else { return endFailed(.failed, &units) }
        let unit = units.place(interface, UInt16(bytes[13] & 0x0f))
        if command.effect != .requestSense || failed?.unit != unit { endFailed(.failed, &units) }
        // Nobody waits for the reason.
        if command.effect == .requestSense, failed == nil { return }
        current = PendingCommand(
            tag: bytes.littleEndianWord(at: 4),
            token: transfer.token,
            unit: unit,
            command: command,
            began: now(),
            mark: units[unit].written,
            announced: bytes[12] & 0x80 == 0 ? UInt64(bytes.littleEndianWord(at: 8)) : 0
        )
    }

    mutating func sent(
        _ transfer: StorageTracker.Transfer,
        succeeded: Bool,
        _ bytes: borrowing Span<UInt8>,
        _ units: inout [StorageUnit]
    ) {
        if !succeeded, current?.token == transfer.token { current.take()?.end(.void, &units) }
    }

    mutating func received(
        _ transfer: StorageTracker.Transfer,
        _ bytes: borrowing Span<UInt8>,
        _ units: inout [StorageUnit]
    ) {
        // The signature isn't looked at, as some devices have another and Linux takes them: the tag tells enough.
        guard transfer.length == Self.statusLength, bytes.count == Self.statusLength, let command = current,
            bytes.littleEndianWord(at: 4) == command.tag
        else {
            if current?.command.wantsDataIn == true { current?.take(bytes) }
            return
        }
        current = nil
        switch (bytes[12], command.command.effect) {
        case (0, .requestSense): endFailed(Self.outcome(sense: command.data), &units)
        case (1, .requestSense): endFailed(.failed, &units)
        case (0, _): command.end(.succeeded, residue: UInt64(bytes.littleEndianWord(at: 8)), &units)
        case (1, _): failed = command
        // A phase error: the host resets now.
        default: command.end(.void, &units)
        }
    }

    mutating func void(_ units: inout [StorageUnit]) {
        current.take()?.end(.void, &units)
        endFailed(.failed, &units)
    }

    func oldestBusy(_ unit: Int) -> PendingCommand? {
        // One that failed began before the current one.
        if let failed, failed.unit == unit, failed.command.isBusy { return failed }
        if let current, current.unit == unit, current.command.isBusy { return current }
        return nil
    }

    private mutating func endFailed(_ outcome: StorageTracker.Outcome, _ units: inout [StorageUnit]) {
        failed.take()?.end(outcome, &units)
    }

    /// Valid and meaningful (6.2), except that a reserved bit does no harm.
    private static func isWrapper(_ transfer: StorageTracker.Transfer, _ bytes: borrowing Span<UInt8>) -> Bool {
        transfer.length == wrapperLength && bytes.count == wrapperLength
            && bytes.littleEndianWord(at: 0) == 0x4342_5355 && (1...16).contains(bytes[14] & 0x1f)
    }

    private static func outcome(sense data: [UInt8]) -> StorageTracker.Outcome {
        .init(senseKey: SenseData.key { $0 < data.count ? data[$0] : nil })
    }
}

extension StorageTracker.Outcome {
    /// Of a command that failed for this reason.
    init(senseKey: UInt8?) {
        self =
            switch senseKey {
            case 0x05: .refused(isIllegal: true)
            // Not ready; unit attention; write-protected: none is begun.
            case 0x02, 0x06, 0x07: .refused(isIllegal: false)
            default: .failed
            }
    }
}
