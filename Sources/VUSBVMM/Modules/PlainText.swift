// SPDX-License-Identifier: Apache-2.0

/// What others said, made fit for messages: a guest must not be able to write escape sequences to a terminal, nor
/// fill a log.
enum PlainText {
    /// One line: control characters become `?`, what is beyond `limit` characters is left out.
    static func line(_ text: String, limit: Int = 300) -> String {
        // Cut first: what a guest sends may be long. Four bytes are one scalar at most.
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars.prefix(limit) {
            result.append(isPlain(scalar) ? scalar : "?")
        }
        return String(result)
    }

    /// The last lines that aren't empty, with ` / ` between them.
    static func lastLines(_ bytes: [UInt8], count: Int = 3) -> String {
        let text = String(decoding: bytes.suffix(4096), as: UTF8.self)
        let lines = text.split(whereSeparator: \.isNewline).suffix(count)
        return lines.map { line(trimmed($0)) }.filter { !$0.isEmpty }.joined(separator: " / ")
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }

    private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        default: true
        }
    }
}
