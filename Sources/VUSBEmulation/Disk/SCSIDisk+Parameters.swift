// SPDX-License-Identifier: Apache-2.0

extension SCSIDisk {
    // MARK: - INQUIRY

    func inquiry(_ command: CommandBlock) -> Action {
        let allocation = command.number(at: 3, bytes: 2)
        guard command[1] & 1 != 0 else {
            return command[2] == 0 ? Self.cut(standardInquiry, to: allocation) : .fail(.invalidField)
        }
        guard let page = vitalProductData(command[2]) else { return .fail(.invalidField) }
        return Self.cut([0, command[2]] + Self.big(UInt64(page.count), bytes: 2) + page, to: allocation)
    }

    /// SPC-4, table 179: a removable direct-access device.
    private var standardInquiry: [UInt8] {
        [0, 0x80, 6, 2, 31, 0, 0, 0] + Self.padded("vusb", 8) + Self.padded(product, 16) + Self.padded("0001", 4)
    }

    /// Pages without their four-byte header; nil for one that it doesn't have.
    private func vitalProductData(_ page: UInt8) -> [UInt8]? {
        switch page {
        case 0x00: [0x00, 0x80, 0x83, 0xb0]
        case 0x80: Array(serial.utf8)
        case 0x83:
            // T10 vendor identification, ASCII (SPC-4, 7.8.6.4).
            [2, 1, 0, UInt8(truncatingIfNeeded: 8 + serial.utf8.count)] + Self.padded("vusb", 8) + Array(serial.utf8)
        case 0xb0:
            // No limits (SBC-3, 6.6.3).
            Array(repeating: 0, count: 60)
        default: nil
        }
    }

    // MARK: - Capacity

    func readCapacity10(_ command: CommandBlock) -> Action {
        // More blocks than fit: READ CAPACITY (16) tells.
        .send(Self.big(min(blockCount - 1, 0xffff_ffff), bytes: 4) + Self.big(Self.blockSize, bytes: 4))
    }

    /// Service action 0x10 of 0x9e, the only one.
    func readCapacity16(_ command: CommandBlock) -> Action {
        guard command[1] & 0x1f == 0x10 else { return .fail(.invalidField) }
        let bytes =
            Self.big(blockCount - 1, bytes: 8) + Self.big(Self.blockSize, bytes: 4) + Array(repeating: 0, count: 20)
        return Self.cut(bytes, to: command.number(at: 10, bytes: 4))
    }

    /// MMC-6, 6.24: the current one, formatted.
    func readFormatCapacities(_ command: CommandBlock) -> Action {
        let bytes =
            [0, 0, 0, 8] + Self.big(min(blockCount, 0xffff_ffff), bytes: 4) + [2] + Self.big(Self.blockSize, bytes: 3)
        return Self.cut(bytes, to: command.number(at: 7, bytes: 2))
    }

    // MARK: - MODE SENSE

    func modeSense6(_ command: CommandBlock) -> Action {
        guard let pages = modePages(command) else { return .fail(.invalidField) }
        // Header of four bytes: length of what follows, medium type, write protection and DPOFUA, no block descriptor.
        return Self.cut([UInt8(3 + pages.count), 0, deviceSpecific, 0] + pages, to: UInt64(command[4]))
    }

    func modeSense10(_ command: CommandBlock) -> Action {
        guard let pages = modePages(command) else { return .fail(.invalidField) }
        let header = Self.big(UInt64(6 + pages.count), bytes: 2) + [0, deviceSpecific, 0, 0, 0, 0]
        return Self.cut(header + pages, to: command.number(at: 7, bytes: 2))
    }

    /// SBC-3, 6.5.1: bit 7 write-protected, bit 4 force unit access is heeded.
    private var deviceSpecific: UInt8 { (isWriteProtected ? 0x80 : 0) | 0x10 }

    /// Nil for pages that it doesn't have. Saved values aren't offered.
    private func modePages(_ command: CommandBlock) -> [UInt8]? {
        let control = command[2] >> 6
        let page = command[2] & 0x3f
        guard control != 3, command[3] == 0 || command[3] == 0xff, page == 0x08 || page == 0x3f else { return nil }
        // Caching (SBC-3, 6.5.5): writes are cached until SYNCHRONIZE CACHE. Nothing in it can be changed.
        let writeCache: UInt8 = control == 1 ? 0 : 0x04
        return [0x08, 18, writeCache] + Array(repeating: 0, count: 17)
    }

    // MARK: - Bytes

    static func big(_ value: UInt64, bytes: Int) -> [UInt8] {
        (0..<bytes).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (bytes - 1 - $0))) }
    }

    /// ASCII, cut or filled with spaces.
    private static func padded(_ text: String, _ count: Int) -> [UInt8] {
        let bytes = text.utf8.prefix(count).map { $0 >= 0x20 && $0 < 0x7f ? $0 : UInt8(ascii: "?") }
        return bytes + Array(repeating: UInt8(ascii: " "), count: count - bytes.count)
    }
}
