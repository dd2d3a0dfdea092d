// SPDX-License-Identifier: Apache-2.0

/// Makes lines of bytes as they arrive. Holds no more than the longest allowed line and what was appended last.
struct LineSplitter {
    enum Line: Sendable, Equatable {
        /// Without its end (LF or CR LF); never empty.
        case bytes([UInt8])
        /// It was longer than the limit: told when that is known, and again after each so many bytes of the rest. All
        /// of it is dropped.
        case overlong
    }

    let limit: Int
    private var buffer: [UInt8] = []
    private var start = 0
    /// Where no line end is below.
    private var scanned = 0
    /// Bytes of an overlong line since it was told last; nil outside of one.
    private var dropped: Int?

    init(limit: Int) { self.limit = limit }

    var isEmpty: Bool { start == buffer.count && dropped == nil }

    mutating func append(_ bytes: some Collection<UInt8>) {
        buffer.removeFirst(start)
        scanned -= start
        start = 0
        buffer += bytes
    }

    /// Nil where no whole line is there yet.
    mutating func next() -> Line? {
        while let end = buffer[scanned...].firstIndex(of: 0x0A) {
            let line = buffer[start..<end]
            start = end + 1
            scanned = start
            if dropped != nil {
                dropped = nil
            } else if line.count > limit {
                return .overlong
            } else if let line = Self.withoutReturn(line) {
                return .bytes(line)
            }
        }
        scanned = buffer.count
        let rest = (dropped ?? 0) + buffer.count - start
        guard rest > limit || dropped != nil else { return nil }
        buffer.removeAll()
        start = 0
        scanned = 0
        dropped = rest > limit ? 0 : rest
        return rest > limit ? .overlong : nil
    }

    private static func withoutReturn(_ line: ArraySlice<UInt8>) -> [UInt8]? {
        let line = line.last == 0x0D ? line.dropLast() : line
        return line.isEmpty ? nil : Array(line)
    }
}
