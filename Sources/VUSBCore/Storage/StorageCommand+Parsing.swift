// SPDX-License-Identifier: Apache-2.0

// Which command it is, by SPC-4, SBC-4 and (where it says so) MMC-6.
extension StorageCommand {
    /// Nil for a command that doesn't matter for what is on the medium.
    static func parse(_ block: StorageCommandBlock) -> StorageCommand? {
        write(block) ?? otherChange(block) ?? flush(block) ?? question(block)
    }

    // MARK: - Writes of blocks

    private static func write(_ block: StorageCommandBlock) -> StorageCommand? {
        let settlement: Settlement = block[1] & 0x08 != 0 ? .atStatus : .byCache
        func write(_ name: String, _ settlement: Settlement, at index: Int, bytes: Int) -> StorageCommand {
            StorageCommand(name: name, effect: .change(settlement), blocks: block.number(at: index, bytes: bytes))
        }
        // Bit 3 is FUA only where the standard has it. WRITE AND VERIFY reads back what may be the cache's.
        return switch block[0] {
        case 0x0a:
            StorageCommand(name: "WRITE(6)", effect: .change(.byCache), blocks: block[4] == 0 ? 256 : UInt64(block[4]))
        case 0x2a: write("WRITE(10)", settlement, at: 7, bytes: 2)
        case 0xaa: write("WRITE(12)", settlement, at: 6, bytes: 4)
        case 0x8a: write("WRITE(16)", settlement, at: 10, bytes: 4)
        case 0x9c: write("WRITE ATOMIC(16)", settlement, at: 12, bytes: 2)
        case 0x8b: write("ORWRITE(16)", settlement, at: 10, bytes: 4)
        case 0x89: write("COMPARE AND WRITE", settlement, at: 13, bytes: 1)
        case 0x2e: write("WRITE AND VERIFY(10)", .byCache, at: 7, bytes: 2)
        case 0xae: write("WRITE AND VERIFY(12)", .byCache, at: 6, bytes: 4)
        case 0x8e: write("WRITE AND VERIFY(16)", .byCache, at: 10, bytes: 4)
        case 0x7f: variableLength(block)
        default: nil
        }
    }

    /// Operation code 7Fh: bytes 8 and 9 say which.
    private static func variableLength(_ block: StorageCommandBlock) -> StorageCommand? {
        let settlement: Settlement = block[10] & 0x08 != 0 ? .atStatus : .byCache
        let blocks = block.number(at: 28, bytes: 4)
        return switch block.number(at: 8, bytes: 2) {
        case 0x04: StorageCommand(name: "XDWRITE(32)", effect: .change(.byCache), blocks: blocks)
        case 0x06: StorageCommand(name: "XPWRITE(32)", effect: .change(.byCache), blocks: blocks)
        case 0x07: StorageCommand(name: "XDWRITEREAD(32)", effect: .change(.byCache), blocks: blocks)
        case 0x0b: StorageCommand(name: "WRITE(32)", effect: .change(settlement), blocks: blocks)
        case 0x0c: StorageCommand(name: "WRITE AND VERIFY(32)", effect: .change(.byCache), blocks: blocks)
        case 0x0d: StorageCommand(name: "WRITE SAME(32)", effect: .change(.byCache))
        case 0x0e: StorageCommand(name: "ORWRITE(32)", effect: .change(settlement), blocks: blocks)
        default: nil
        }
    }

    // MARK: - Other changes

    private static func otherChange(_ block: StorageCommandBlock) -> StorageCommand? {
        func change(_ name: String, _ settlement: Settlement = .byCache) -> StorageCommand {
            StorageCommand(name: name, effect: .change(settlement))
        }
        return switch block[0] {
        // With parameters, which may ask for a status at once.
        case 0x04: change("FORMAT UNIT", block[1] & 0x10 != 0 ? .later : .byCache)
        case 0x48: change("SANITIZE", block[1] & 0x80 != 0 ? .later : .byCache)
        case 0x07: change("REASSIGN BLOCKS")
        case 0x19: change("ERASE(6)")
        case 0x2c: change("ERASE(10)")
        case 0xac: change("ERASE(12)")
        case 0x3b: StorageCommand(name: "WRITE BUFFER", effect: .service)
        case 0x3d: change("UPDATE BLOCK")
        case 0x3f: change("WRITE LONG(10)")
        case 0x9f where block[1] & 0x1f == 0x11: change("WRITE LONG(16)")
        case 0x41: change("WRITE SAME(10)")
        case 0x93: change("WRITE SAME(16)")
        case 0x42: change("UNMAP")
        case 0x50: change("XDWRITE(10)")
        case 0x51: change("XPWRITE(10)")
        case 0x53: change("XDWRITEREAD(10)")
        case 0x80: change("XDWRITE EXTENDED(16)")
        case 0x81: change("REBUILD(16)")
        case 0x82: change("REGENERATE(16)")
        case 0x83: change("EXTENDED COPY")
        case 0x94: change("ZBC OUT")
        // MMC; the same number is nothing in SBC.
        case 0x5b: change("CLOSE TRACK SESSION", block[1] & 0x01 != 0 ? .later : .byCache)
        case 0x85, 0xa1: isATAWrite(block) ? change("ATA PASS-THROUGH") : nil
        default: nil
        }
    }

    /// SAT-4: a protocol that sends data, or DMA in that direction. What asks for data (IDENTIFY, SMART) isn't one.
    private static func isATAWrite(_ block: StorageCommandBlock) -> Bool {
        switch (block[1] >> 1) & 0x0f {
        case 5, 11: true  // PIO Data-Out, UDMA Data-Out.
        case 6, 12: block[2] & 0x08 == 0  // DMA, FPDMA: T_DIR.
        default: false
        }
    }

    // MARK: - Flushes

    /// Only those that cover all, and whose status comes when it's done.
    private static func flush(_ block: StorageCommandBlock) -> StorageCommand? {
        let isImmediate = block[1] & 0x02 != 0
        switch block[0] {
        case 0x35 where !isImmediate && block.number(at: 2, bytes: 4) == 0 && block.number(at: 7, bytes: 2) == 0:
            return StorageCommand(name: "SYNCHRONIZE CACHE(10)", effect: .synchronize)
        case 0x91 where !isImmediate && block.number(at: 2, bytes: 8) == 0 && block.number(at: 10, bytes: 4) == 0:
            return StorageCommand(name: "SYNCHRONIZE CACHE(16)", effect: .synchronize)
        // Neither IMMED, nor a power condition, nor NO_FLUSH, nor START.
        case 0x1b where block[1] & 0x01 == 0 && block[4] & 0xf5 == 0:
            return StorageCommand(name: "START STOP UNIT", effect: .stop)
        default: return nil
        }
    }

    // MARK: - Questions

    private static func question(_ block: StorageCommandBlock) -> StorageCommand? {
        switch block[0] {
        case 0x03: StorageCommand(name: "REQUEST SENSE", effect: .requestSense)
        case 0x1a where asksForCaching(block): StorageCommand(name: "MODE SENSE(6)", effect: .modeSense(.six))
        case 0x5a where asksForCaching(block): StorageCommand(name: "MODE SENSE(10)", effect: .modeSense(.ten))
        case 0x15: StorageCommand(name: "MODE SELECT(6)", effect: .modeSelect(.six))
        case 0x55: StorageCommand(name: "MODE SELECT(10)", effect: .modeSelect(.ten))
        case 0x25: StorageCommand(name: "READ CAPACITY(10)", effect: .readCapacity(blockLengthAt: 4))
        case 0x9e where block[1] & 0x1f == 0x10:
            StorageCommand(name: "READ CAPACITY(16)", effect: .readCapacity(blockLengthAt: 8))
        default: nil
        }
    }

    /// Page 08h or all, subpage 0 or all, and of the four kinds of values those in force.
    private static func asksForCaching(_ block: StorageCommandBlock) -> Bool {
        (block[2] == 0x08 || block[2] == 0x3f) && (block[3] == 0 || block[3] == 0xff)
    }
}
