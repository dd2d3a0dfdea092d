// SPDX-License-Identifier: Apache-2.0

internal import CUSBRedirParser
internal import VUSBCore

/// Reads what a peer says, and has the parser.
///
/// Concurrency model: the loop's thread alone calls it; the last owner of the session, on whatever thread, ends it.
@safe
final class RedirReader: RedirParserUser, @unchecked Sendable {
    // SAFETY: see the concurrency model.
    private(set) var parser: RedirParser?
    private weak var session: RedirSession?
    private var framing = RedirFraming()
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: RedirLimits.receiveBuffer, alignment: 16)
    /// What of the buffer hasn't been parsed.
    private var unread = 0..<0
    private var hasHello = false
    private var hasEnded = false
    private var turn = Turn()
    private(set) var violation: String?

    /// What is taken before other connections have their turn.
    private struct Turn {
        var bytes = RedirLimits.turnBytes
        private var messages = RedirLimits.turnMessages

        var isOver: Bool { bytes <= 0 || messages <= 0 }

        /// - Returns: false where the next message is another turn's.
        mutating func begins() -> Bool {
            guard !isOver else { return false }
            messages -= 1
            return true
        }
    }

    deinit { unsafe buffer.deallocate() }

    /// - Returns: false where there is no memory.
    func begin(_ session: RedirSession, version: String) -> Bool {
        self.session = session
        parser = RedirParser(version: version, user: self)
        return parser != nil
    }

    /// Takes all there is, until the peer has nothing more to say, or is to wait.
    func readAll() {
        guard let session, let parser, !session.isClosed else { return }
        turn = Turn()
        let isWellFormed = parser.read()
        if violation == nil, !isWellFormed { violation = parser.complaint ?? "a message that isn't of the protocol" }
        parser.flush()
        if let violation { return session.end(violation: violation) }
        if hasEnded { return session.end(violation: nil) }
        if turn.isOver { session.poke() }
    }

    // MARK: - RedirParserUser

    func parserReads(into destination: UnsafeMutableRawBufferPointer) -> Int {
        guard violation == nil, !hasEnded, let session, !session.isClosed else { return -1 }
        if framing.isBetweenMessages, session.isHeld || !turn.begins() { return 0 }
        let wanted = min(destination.count, framing.left)
        guard let count = unsafe fill(UnsafeMutableRawBufferPointer(rebasing: destination[..<wanted])) else { return 0 }
        // SAFETY: `fill` has written `count` bytes there.
        let piece = unsafe Span<UInt8>(_unsafeBytes: UnsafeRawBufferPointer(rebasing: destination[..<count]))
        guard framing.take(piece) else {
            violation = "a message of more than \(RedirLimits.message) bytes"
            return -1
        }
        turn.bytes -= count
        return count
    }

    /// - Returns: nil where there is nothing now.
    private func fill(_ destination: UnsafeMutableRawBufferPointer) -> Int? {
        if unread.isEmpty {
            // Much is received where it's to be.
            if destination.count >= RedirLimits.receiveBuffer / 4 { return unsafe receive(destination) }
            guard let count = unsafe receive(buffer) else { return nil }
            unread = 0..<count
        }
        let count = min(destination.count, unread.count)
        // SAFETY: `unread` lies in the buffer.
        unsafe destination.copyMemory(
            from: UnsafeRawBufferPointer(rebasing: buffer[unread.lowerBound..<unread.lowerBound + count]))
        unread = unread.lowerBound + count..<unread.upperBound
        return count
    }

    private func receive(_ destination: UnsafeMutableRawBufferPointer) -> Int? {
        guard let session else { return nil }
        switch unsafe session.receive(into: destination) {
        case .moved(let count): return count
        case .blocked: return nil
        case .ended, .failed:
            hasEnded = true
            return nil
        }
    }

    func parserReceived(_ message: consuming RedirMessage) {
        guard violation == nil, let session else { return }
        guard hasHello else {
            violation = "a message before its hello"
            return
        }
        violation = session.carryOut(message)
        // What it put together goes behind what was sent before it.
        parser?.flush()
    }

    func parserGreeted(_ peer: String) {
        guard violation == nil, let session, let parser else { return }
        guard !hasHello else {
            violation = "a second hello"
            return
        }
        hasHello = true
        let form = RedirForm(
            hasLongIDs: parser.peerHas(usb_redir_cap_64bits_ids),
            hasLongBulk: parser.peerHas(usb_redir_cap_32bits_bulk_length))
        framing.headerLength = form.headerLength
        session.opened(peer: RedirText.line(peer), form)
        session.describe()
        parser.sendConnect(session.device)
        parser.flush()
    }

    func parserSends(_ bytes: consuming RedirBytes) { session?.append(bytes) }
}

/// What a peer says of itself, made fit for logs.
enum RedirText {
    /// One line of printable ASCII, at most 64 characters; others become `?`.
    static func line(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.prefix(64).map { (0x20..<0x7f).contains($0.value) ? $0 : Unicode.Scalar(0x3f) }))
    }
}
