// SPDX-License-Identifier: Apache-2.0

/// USB Attached SCSI (UAS-2): information units on a pipe for commands and one for statuses, several commands at once,
/// told apart by tags. With bulk streams, a stream's ID is the tag that its data belong to; without, the device says
/// on the status pipe whose data it wants or has next.
struct AttachedSCSICommands: StorageTransport {
    /// First byte of an information unit.
    private enum Kind {
        static let command: UInt8 = 0x01
        static let sense: UInt8 = 0x03
        static let response: UInt8 = 0x04
        static let taskManagement: UInt8 = 0x05
        static let readReady: UInt8 = 0x06
        static let writeReady: UInt8 = 0x07
    }

    /// What a task management function that succeeds ends.
    private struct TaskManagement: Sendable {
        let tag: UInt32
        let function: UInt8
        let task: UInt32
        let lun: UInt16
    }

    /// Linux has one at a time.
    private static let managementLimit = 8

    private let interface: InterfaceNumber
    private let pipes: AttachedSCSIPipes
    private var pending: [PendingCommand] = []
    private var management: [TaskManagement] = []
    /// Whose data come next, where there are no streams.
    private var reading: UInt32 = 0
    private var writing: UInt32 = 0

    init(_ interface: InterfaceNumber, _ pipes: AttachedSCSIPipes) {
        self.interface = interface
        self.pipes = pipes
    }

    // MARK: - What passes

    mutating func willSend(
        _ transfer: StorageTracker.Transfer,
        _ bytes: borrowing Span<UInt8>,
        at now: () -> PendingCommand.Instant,
        _ units: inout [StorageUnit]
    ) {
        // Data may be submitted before their command: they are looked at when they are gone.
        guard transfer.endpoint == pipes.command, bytes.count >= 16 else { return }
        let tag = UInt32(bytes.bigEndianHalf(at: 2))
        switch bytes[0] {
        case Kind.command where bytes.count >= 32: begin(tag, transfer.token, bytes, at: now, &units)
        case Kind.taskManagement where management.count < Self.managementLimit:
            management.append(
                TaskManagement(
                    tag: tag,
                    function: bytes[4],
                    task: UInt32(bytes.bigEndianHalf(at: 6)),
                    lun: bytes.bigEndianHalf(at: 8)
                )
            )
        default: break
        }
    }

    mutating func sent(
        _ transfer: StorageTracker.Transfer,
        succeeded: Bool,
        _ bytes: borrowing Span<UInt8>,
        _ units: inout [StorageUnit]
    ) {
        if transfer.endpoint == pipes.command {
            guard !succeeded, let index = pending.firstIndex(where: { $0.token == transfer.token }) else { return }
            pending.remove(at: index).end(.void, &units)
        } else if succeeded, let index = index(transfer, or: writing), pending[index].command.wantsDataOut {
            pending[index].take(bytes)
        }
    }

    mutating func received(
        _ transfer: StorageTracker.Transfer,
        _ bytes: borrowing Span<UInt8>,
        _ units: inout [StorageUnit]
    ) {
        if transfer.endpoint == pipes.status { return statusCame(bytes, &units) }
        if let index = index(transfer, or: reading), pending[index].command.wantsDataIn { pending[index].take(bytes) }
    }

    mutating func void(_ units: inout [StorageUnit]) {
        void(&units) { _ in true }
        management = []
        (reading, writing) = (0, 0)
    }

    func oldestBusy(_ unit: Int) -> PendingCommand? {
        pending.filter { $0.unit == unit && $0.command.isBusy }.min { $0.began < $1.began }
    }

    // MARK: - Commands

    private mutating func begin(
        _ tag: UInt32,
        _ token: URBToken,
        _ bytes: borrowing Span<UInt8>,
        at now: () -> PendingCommand.Instant,
        _ units: inout [StorageUnit]
    ) {
        // A tag that is used anew: the device ends both, or the status of the first was never fetched.
        if let index = index(tag) { pending.remove(at: index).end(.void, &units) }
        // The additional length is in words of four bytes, in bits 2 to 7.
        let block = StorageCommandBlock(bytes, from: 16, count: 16 + Int(bytes[6] & 0xfc))
        guard let command = StorageCommand.parse(block), command.effect != .requestSense else { return }
        let unit = units.place(interface, bytes.bigEndianHalf(at: 8))
        let new = PendingCommand(
            tag: tag,
            token: token,
            unit: unit,
            command: command,
            began: now(),
            mark: units[unit].written
        )
        // More than any driver sends. Its end won't be seen, so what it changes counts from now on.
        guard pending.count < StorageTracker.commandLimit else {
            if case .change = command.effect { new.end(.void, &units) }
            return
        }
        pending.append(new)
    }

    private func index(_ tag: UInt32) -> Int? { pending.firstIndex { $0.tag == tag } }

    private func index(_ transfer: StorageTracker.Transfer, or ready: UInt32) -> Int? {
        index(transfer.streamID > 0 ? UInt32(transfer.streamID) : ready)
    }

    // MARK: - Statuses

    private mutating func statusCame(_ bytes: borrowing Span<UInt8>, _ units: inout [StorageUnit]) {
        guard bytes.count >= 4 else { return }
        let tag = UInt32(bytes.bigEndianHalf(at: 2))
        switch bytes[0] {
        case Kind.readReady: reading = tag
        case Kind.writeReady: writing = tag
        case Kind.sense where bytes.count >= 7:
            guard let index = index(tag) else { return }
            pending.remove(at: index).end(Self.outcome(bytes), &units)
        case Kind.response where bytes.count >= 8: responseCame(tag, code: bytes[7], &units)
        default: break
        }
    }

    /// To a task management function, or to a command that the device couldn't make out.
    private mutating func responseCame(_ tag: UInt32, code: UInt8, _ units: inout [StorageUnit]) {
        guard let position = management.firstIndex(where: { $0.tag == tag }) else {
            if let index = index(tag) { pending.remove(at: index).end(.void, &units) }
            return
        }
        let management = management.remove(at: position)
        // Complete, or succeeded.
        guard code == 0x00 || code == 0x08 else { return }
        switch management.function {
        // ABORT TASK.
        case 0x01: void(&units) { $0.tag == management.task }
        // ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET.
        case 0x02, 0x04, 0x08:
            let unit = units.place(interface, management.lun)
            void(&units) { $0.unit == unit }
        // I_T NEXUS RESET.
        case 0x10: void(&units) { _ in true }
        default: break
        }
    }

    private mutating func void(_ units: inout [StorageUnit], where isEnded: (PendingCommand) -> Bool) {
        for command in pending where isEnded(command) { command.end(.void, &units) }
        pending.removeAll(where: isEnded)
    }

    private static func outcome(_ bytes: borrowing Span<UInt8>) -> StorageTracker.Outcome {
        switch bytes[6] {
        case 0x00: return .succeeded
        // BUSY, RESERVATION CONFLICT, TASK SET FULL, ACA ACTIVE: none is begun.
        case 0x08, 0x18, 0x28, 0x30: return .refused(isIllegal: false)
        case 0x02:
            let first: UInt8? = bytes.count > 16 ? bytes[16] : nil
            let second: UInt8? = bytes.count > 17 ? bytes[17] : nil
            let third: UInt8? = bytes.count > 18 ? bytes[18] : nil
            return .init(senseKey: SenseData.key { [first, second, third][$0] })
        default: return .failed
        }
    }
}
