// SPDX-License-Identifier: Apache-2.0

/// A SCSI direct-access device (SPC-4, SBC-3) without its transport: takes a command, says what is to be moved.
struct SCSIDisk: Sendable {
    /// What a command wants.
    enum Action: Sendable {
        case finish
        case fail(Sense)
        case send([UInt8])
        /// Bytes of the image.
        case read(offset: UInt64, count: UInt64)
        case write(offset: UInt64, count: UInt64, isDurable: Bool)
        /// What was written is to be on the medium before the command ends.
        case synchronize(ejects: Bool)
    }

    let blockCount: UInt64
    let isWriteProtected: Bool
    let serial: String
    let product: String
    private(set) var sense = Sense.none
    private var isRemovalPrevented = false
    private var isEjected = false

    static let blockSize = UInt64(ImageFile.blockSize)

    init(blockCount: UInt64, isWriteProtected: Bool, serial: String, product: String) {
        self.blockCount = blockCount
        self.isWriteProtected = isWriteProtected
        self.serial = serial
        self.product = product
    }

    /// Keeps `sense` for REQUEST SENSE.
    mutating func fail(_ sense: Sense) { self.sense = sense }

    mutating func ejected() { isEjected = true }

    /// The device was reset: a medium that was ejected is back in, as after a power cycle.
    mutating func reset() {
        sense = .none
        isRemovalPrevented = false
        isEjected = false
    }

    /// Decides what a command does. The sense of the one before is forgotten, except by REQUEST SENSE, which returns it.
    mutating func execute(_ command: CommandBlock) -> Action {
        if command.operation == Operation.requestSense {
            defer { sense = .none }
            return Self.cut(sense.bytes, to: UInt64(command[4]))
        }
        sense = .none
        let action = carryOut(command)
        if case .fail(let sense) = action { self.sense = sense }
        return action
    }

    /// Operation codes (SPC-4, SBC-3, MMC-6 for the format capacities).
    enum Operation {
        static let testUnitReady: UInt8 = 0x00
        static let requestSense: UInt8 = 0x03
        static let read6: UInt8 = 0x08
        static let write6: UInt8 = 0x0a
        static let inquiry: UInt8 = 0x12
        static let modeSense6: UInt8 = 0x1a
        static let startStop: UInt8 = 0x1b
        static let preventRemoval: UInt8 = 0x1e
        static let readFormatCapacities: UInt8 = 0x23
        static let readCapacity10: UInt8 = 0x25
        static let read10: UInt8 = 0x28
        static let write10: UInt8 = 0x2a
        static let verify10: UInt8 = 0x2f
        static let synchronize10: UInt8 = 0x35
        static let modeSense10: UInt8 = 0x5a
        static let read16: UInt8 = 0x88
        static let write16: UInt8 = 0x8a
        static let verify16: UInt8 = 0x8f
        static let synchronize16: UInt8 = 0x91
        static let serviceActionIn: UInt8 = 0x9e
        static let reportLUNs: UInt8 = 0xa0
        static let read12: UInt8 = 0xa8
        static let write12: UInt8 = 0xaa
    }

    private mutating func carryOut(_ command: CommandBlock) -> Action {
        switch command.operation {
        case Operation.inquiry: return inquiry(command)
        case Operation.reportLUNs:
            // One logical unit, number 0.
            return Self.cut([0, 0, 0, 8] + Array(repeating: 0, count: 12), to: command.number(at: 6, bytes: 4))
        case Operation.startStop: return startStop(command)
        case Operation.preventRemoval:
            isRemovalPrevented = command[4] & 1 != 0
            return .finish
        default: return isEjected ? .fail(.mediumNotPresent) : access(command)
        }
    }

    /// Commands that need the medium.
    private func access(_ command: CommandBlock) -> Action {
        switch command.operation {
        case Operation.testUnitReady: return .finish
        case Operation.read6, Operation.read10, Operation.read12, Operation.read16: return read(command)
        case Operation.write6, Operation.write10, Operation.write12, Operation.write16: return write(command)
        case Operation.verify10, Operation.verify16: return verify(command)
        case Operation.synchronize10, Operation.synchronize16:
            return range(command) == nil ? .fail(.outOfRange) : .synchronize(ejects: false)
        case Operation.readCapacity10: return readCapacity10(command)
        case Operation.serviceActionIn: return readCapacity16(command)
        case Operation.readFormatCapacities: return readFormatCapacities(command)
        case Operation.modeSense6: return modeSense6(command)
        case Operation.modeSense10: return modeSense10(command)
        default: return .fail(.invalidCommand)
        }
    }

    /// Sends at most as much as the command allows.
    static func cut(_ bytes: [UInt8], to allocation: UInt64) -> Action {
        .send(Array(bytes.prefix(Int(min(allocation, UInt64(bytes.count))))))
    }

    // MARK: - Blocks

    /// The blocks that a command names, where the disk has them: the first and how many.
    private func range(_ command: CommandBlock) -> (first: UInt64, count: UInt64)? {
        let first: UInt64
        let count: UInt64
        switch command.operation >> 5 {
        case 0:
            first = command.number(at: 1, bytes: 3) & 0x1f_ffff
            // In six bytes, 0 means 256.
            count = command[4] == 0 ? 256 : UInt64(command[4])
        case 1: (first, count) = (command.number(at: 2, bytes: 4), command.number(at: 7, bytes: 2))
        case 5: (first, count) = (command.number(at: 2, bytes: 4), command.number(at: 6, bytes: 4))
        default: (first, count) = (command.number(at: 2, bytes: 8), command.number(at: 10, bytes: 4))
        }
        guard first <= blockCount, count <= blockCount - first else { return nil }
        return (first, count)
    }

    private func read(_ command: CommandBlock) -> Action {
        guard let (first, count) = range(command) else { return .fail(.outOfRange) }
        guard command.operation == Operation.read6 || command[1] & 0xe0 == 0 else { return .fail(.invalidField) }
        return .read(offset: first * Self.blockSize, count: count * Self.blockSize)
    }

    private func write(_ command: CommandBlock) -> Action {
        guard !isWriteProtected else { return .fail(.writeProtected) }
        guard let (first, count) = range(command) else { return .fail(.outOfRange) }
        let hasFlags = command.operation != Operation.write6
        guard !hasFlags || command[1] & 0xe0 == 0 else { return .fail(.invalidField) }
        // Force unit access.
        let isDurable = hasFlags && command[1] & 0x08 != 0
        return .write(offset: first * Self.blockSize, count: count * Self.blockSize, isDurable: isDurable)
    }

    /// Without data of the host's: the blocks are there, so they are good. A comparison isn't offered.
    private func verify(_ command: CommandBlock) -> Action {
        guard command[1] & 0x06 == 0 else { return .fail(.invalidField) }
        return range(command) == nil ? .fail(.outOfRange) : .finish
    }

    /// SBC-3, 5.20. Stopping flushes; a power condition is accepted and changes nothing.
    private mutating func startStop(_ command: CommandBlock) -> Action {
        let loadsOrEjects = command[4] & 2 != 0
        let isPowerCondition = command[4] >> 4 != 0
        guard !isPowerCondition else { return .finish }
        if command[4] & 1 != 0 {
            if loadsOrEjects { isEjected = false }
            return isEjected ? .fail(.mediumNotPresent) : .finish
        }
        if loadsOrEjects, isRemovalPrevented { return .fail(.removalPrevented) }
        return .synchronize(ejects: loadsOrEjects)
    }
}
