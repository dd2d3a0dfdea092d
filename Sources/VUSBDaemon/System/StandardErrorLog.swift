// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
package import Logging

/// Writes one line a message to standard error: `level message key=value ...`, with journald's priority before it where
/// journald reads (`JOURNAL_STREAM` is set), which adds the time itself.
package struct StandardErrorLog: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let isJournal: Bool

    package init(level: Logger.Level, isJournal: Bool) {
        logLevel = level
        self.isJournal = isJournal
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let line = line(event.level, "\(event.message)", metadata.merging(event.metadata ?? [:]) { $1 })
        // What can't be logged can't be reported either.
        // SAFETY: the text lives through the call and ends with a zero byte.
        _ = unsafe line.withCString { unsafe write(STDERR_FILENO, $0, strlen($0)) }
    }

    func line(_ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata) -> String {
        var line = isJournal ? "<\(Self.priority(level))>" : ISO8601DateFormatter().string(from: Date()) + " "
        line += "\(level) \(Self.clean(message))"
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
            let text = Self.clean("\(value)")
            line += " \(key)=" + (text.contains(" ") ? "\"\(text)\"" : text)
        }
        return line + "\n"
    }

    /// What devices say of themselves must not make lines of its own.
    private static func clean(_ text: String) -> String {
        text.unicodeScalars.map { $0.properties.generalCategory == .control ? $0.escaped(asASCII: true) : String($0) }
            .joined()
    }

    /// As in syslog(3).
    private static func priority(_ level: Logger.Level) -> Int {
        switch level {
        case .critical: 2
        case .error: 3
        case .warning: 4
        case .notice: 5
        case .info: 6
        case .debug, .trace: 7
        }
    }
}
