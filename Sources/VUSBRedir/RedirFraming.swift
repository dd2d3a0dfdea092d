// SPDX-License-Identifier: Apache-2.0

/// Counts through the messages of a peer as they are handed to the parser, so that one that is too long is known before
/// the parser has memory for it: it would allocate up to 128 MiB.
struct RedirFraming {
    /// Bytes of a header: type, length, and an id of 32 bits until both sides have said that theirs have 64.
    var headerLength = 12
    private var header: [UInt8] = []
    private var bodyLeft = 0

    /// Bytes that are left of the header or the body that has begun: no piece may be longer.
    var left: Int { bodyLeft > 0 ? bodyLeft : headerLength - header.count }
    /// Whether the next byte is the first of a message.
    var isBetweenMessages: Bool { bodyLeft == 0 && header.isEmpty }

    /// Takes note of the next piece.
    /// - Returns: false where it's the end of the header of a message that is too long.
    mutating func take(_ piece: Span<UInt8>) -> Bool {
        if bodyLeft > 0 {
            bodyLeft -= min(piece.count, bodyLeft)
            return true
        }
        for index in piece.indices { header.append(piece[index]) }
        guard header.count >= headerLength else { return true }
        let length = (0..<4).reduce(0) { $0 | Int(header[4 + $1]) << (8 * $1) }
        header.removeAll(keepingCapacity: true)
        bodyLeft = length
        return length <= RedirLimits.message
    }
}
