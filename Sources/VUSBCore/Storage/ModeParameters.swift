// SPDX-License-Identifier: Apache-2.0

/// Reads mode parameters (SPC-4, 7.5) for the one bit that matters: WCE of the caching page.
enum ModeParameters {
    enum Format: Sendable, Equatable {
        /// Of MODE SENSE(6) and MODE SELECT(6).
        case six
        case ten

        fileprivate var headerLength: Int { self == .six ? 4 : 8 }
    }

    enum WriteCacheEnable: Sendable, Equatable {
        case found(Bool)
        /// All pages are there, and the caching page isn't among them.
        case absent
        /// The parameters end before their end.
        case cut
    }

    /// - Parameter isAnswer: the header of a device's answer says how long it is; a host's is as long as it is.
    static func writeCacheEnable(_ bytes: [UInt8], _ format: Format, isAnswer: Bool) -> WriteCacheEnable {
        guard bytes.count >= format.headerLength else { return .cut }
        let total = isAnswer ? announcedLength(bytes, format) : bytes.count
        let descriptors = format == .six ? Int(bytes[3]) : Int(bytes[6]) << 8 | Int(bytes[7])
        var position = format.headerLength + descriptors
        let end = min(total, bytes.count)
        while position + 2 < end {
            let hasSubpage = bytes[position] & 0x40 != 0
            if bytes[position] & 0x3f == 0x08, !hasSubpage { return .found(bytes[position + 2] & 0x04 != 0) }
            if hasSubpage {
                guard position + 3 < end else { break }
                position += 4 + (Int(bytes[position + 2]) << 8 | Int(bytes[position + 3]))
            } else {
                position += 2 + Int(bytes[position + 1])
            }
        }
        return total <= bytes.count ? .absent : .cut
    }

    private static func announcedLength(_ bytes: [UInt8], _ format: Format) -> Int {
        format == .six ? 1 + Int(bytes[0]) : 2 + (Int(bytes[0]) << 8 | Int(bytes[1]))
    }
}

/// Sense data (SPC-4, 4.5).
enum SenseData {
    /// Nil where there is none, or it is about an earlier command.
    static func key(_ byte: (Int) -> UInt8?) -> UInt8? {
        switch byte(0).map({ $0 & 0x7f }) {
        case 0x70: byte(2).map { $0 & 0x0f }
        case 0x72: byte(1).map { $0 & 0x0f }
        default: nil
        }
    }
}
