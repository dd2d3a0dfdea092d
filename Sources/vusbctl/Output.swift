// SPDX-License-Identifier: Apache-2.0

import Dispatch
import FoundationEssentials
import Glibc

/// The answer to what has none, as JSON: `{}`.
struct Nothing: Encodable {}

/// Writes to the two outputs. What can't be printed ends the program; a reader that went away (`vusbctl watch | head -1`)
/// does so without a word, as it ends others by SIGPIPE, which the client's sockets have ignored.
enum Output {
    /// - Throws: `Failure`.
    static func print(_ text: String) throws {
        let code = write(text + "\n", to: STDOUT_FILENO)
        guard code != 0 else { return }
        guard code != EPIPE else { throw Failure(.unread) }
        // SAFETY: strerror answers a zero-terminated text for every number; it is copied.
        let reason = unsafe String(cString: strerror(code))
        throw Failure(.failed, "the standard output can't be written: \(reason)")
    }

    /// Ends the program once nobody can read any more what it prints, though it prints nothing: for commands that run on.
    static func endWhenUnread() {
        DispatchQueue(label: "vusbctl.reader").async {
            // Of a pipe POLLERR, of a socket or a terminal POLLHUP: both are told unasked. A file never says anything.
            while ready(STDOUT_FILENO, for: 0) & Int16(POLLERR | POLLHUP | POLLNVAL) == 0 {}
            Glibc.exit(Exit.unread.rawValue)
        }
    }

    /// What can't be said there can be said nowhere.
    static func complain(_ text: String) { _ = write(text + "\n", to: STDERR_FILENO) }

    /// Without a line end.
    static func progress(_ text: String) { _ = write(text, to: STDERR_FILENO) }

    static var isOnTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

    /// Has a terminal forget what it shows (ECMA-48: CUP, ED).
    static let home = "\u{1b}[H\u{1b}[J"

    static var errorsAreOnTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    /// - Parameter lines: in one line, for streams of messages.
    static func json(_ message: some Encodable, lines: Bool = false) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if !lines { encoder.outputFormatting.insert(.prettyPrinted) }
        try print(String(decoding: try encoder.encode(message), as: UTF8.self))
    }

    /// What a device says of itself may have control characters in it, which a terminal would obey.
    static func harmless(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            let isControl = scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
            result.unicodeScalars.append(isControl ? "?" : scalar)
        }
        return result
    }

    /// - Returns: 0, or errno.
    private static func write(_ text: String, to descriptor: Int32) -> Int32 {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            // SAFETY: the buffer lives through the call, which reads `count` bytes of it.
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count < 0 else {
                rest = rest.dropFirst(count)
                continue
            }
            let code = errno
            if code == EAGAIN { _ = ready(descriptor, for: Int16(POLLOUT)) }
            guard code == EAGAIN || code == EINTR else { return code }
        }
        return 0
    }

    /// Waits for one of these, or an error or the end, which aren't asked for.
    /// - Returns: what there is; nothing after a signal.
    private static func ready(_ descriptor: Int32, for events: Int16) -> Int16 {
        var poll = pollfd(fd: descriptor, events: events, revents: 0)
        // SAFETY: one pollfd, which outlives the call.
        return unsafe Glibc.poll(&poll, 1, -1) > 0 ? poll.revents : 0
    }
}
