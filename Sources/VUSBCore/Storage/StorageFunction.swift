// SPDX-License-Identifier: Apache-2.0

/// How commands and their statuses travel.
protocol StorageTransport: Sendable {
    /// An OUT URB is about to go to the device.
    mutating func willSend(
        _ transfer: StorageTracker.Transfer,
        _ bytes: borrowing Span<UInt8>,
        at now: () -> PendingCommand.Instant,
        _ units: inout [StorageUnit]
    )

    /// An OUT URB has ended.
    mutating func sent(
        _ transfer: StorageTracker.Transfer,
        succeeded: Bool,
        _ bytes: borrowing Span<UInt8>,
        _ units: inout [StorageUnit]
    )

    /// An IN URB has brought this.
    mutating func received(
        _ transfer: StorageTracker.Transfer,
        _ bytes: borrowing Span<UInt8>,
        _ units: inout [StorageUnit]
    )

    /// All that is under way has no status to come.
    mutating func void(_ units: inout [StorageUnit])

    /// The oldest command that keeps a unit busy.
    func oldestBusy(_ unit: Int) -> PendingCommand?
}

/// One mass-storage function in use, and the commands that are under way there.
struct StorageFunction: Sendable {
    let interface: StorageInterface
    var transport: any StorageTransport

    init(_ interface: StorageInterface) {
        self.interface = interface
        transport =
            switch interface.transport {
            case .bulkOnly: BulkOnlyCommands(interface.number)
            case .attachedSCSI(let pipes): AttachedSCSICommands(interface.number, pipes)
            }
    }
}

extension StorageInterface {
    var endpoints: [EndpointAddress] {
        switch transport {
        case .bulkOnly(let out, let input): [out, input]
        case .attachedSCSI(let pipes): [pipes.command, pipes.status, pipes.dataIn, pipes.dataOut]
        }
    }
}

extension Span<UInt8> {
    /// Little-endian; the caller has checked the bounds.
    func littleEndianWord(at start: Int) -> UInt32 {
        UInt32(self[start]) | UInt32(self[start + 1]) << 8 | UInt32(self[start + 2]) << 16
            | UInt32(self[start + 3]) << 24
    }

    /// Big-endian; the caller has checked the bounds.
    func bigEndianHalf(at start: Int) -> UInt16 { UInt16(self[start]) << 8 | UInt16(self[start + 1]) }
}
