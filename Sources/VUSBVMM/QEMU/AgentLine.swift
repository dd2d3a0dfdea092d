// SPDX-License-Identifier: Apache-2.0

/// What the guest agent says in one line. A guest writes it, so it may be anything.
struct AgentLine: Equatable {
    /// Whether a byte 0xFF, which no JSON text has, is in front: so the answer to `guest-sync-delimited` begins, and
    /// what is before it is left of something older.
    let isDelimited: Bool
    /// Nil where it's neither an answer nor a refusal.
    let answer: Result<JSONValue, QMPRefusal>?

    init(parsing line: [UInt8]) {
        let sentinel = line.lastIndex(of: 0xFF)
        isDelimited = sentinel != nil
        let message = JSONValue(parsing: Array(line[(sentinel.map { $0 + 1 } ?? 0)...]))
        if let value = message?["return"] {
            answer = .success(value)
        } else {
            answer = message?["error"].flatMap { QMPRefusal($0) }.map { .failure($0) }
        }
    }
}
