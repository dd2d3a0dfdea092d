// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc

/// The answer to what has none, as JSON: `{}`.
struct Nothing: Encodable {}

/// Writes to the two outputs. A reader that went away (`vusbctl watch | head -1`) ends the program as usual, by SIGPIPE.
enum Output {
    static func print(_ text: String) { write(text + "\n", to: STDOUT_FILENO) }

    static func complain(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

    /// Without a line end.
    static func progress(_ text: String) { write(text, to: STDERR_FILENO) }

    static var isOnTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

    /// Has a terminal forget what it shows (ECMA-48: CUP, ED).
    static let home = "\u{1b}[H\u{1b}[J"

    static var errorsAreOnTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    /// - Parameter lines: in one line, for streams of messages.
    static func json(_ message: some Encodable, lines: Bool = false) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if !lines { encoder.outputFormatting.insert(.prettyPrinted) }
        print(String(decoding: try encoder.encode(message), as: UTF8.self))
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

    private static func write(_ text: String, to descriptor: Int32) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            // SAFETY: the buffer lives through the call, which reads `count` bytes of it.
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }  // Nobody reads it; there's nowhere to say so.
            rest = rest.dropFirst(count)
        }
    }
}
