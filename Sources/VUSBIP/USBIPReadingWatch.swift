// SPDX-License-Identifier: Apache-2.0

/// Finds out whether a peer has stopped reading.
struct USBIPReadingWatch {
    private var sent = 0
    private var taken = 0
    private var since = ContinuousClock.now

    /// Bytes were given to NIO.
    mutating func sent(_ count: Int) { sent += count }

    /// - Parameter waiting: bytes that NIO has yet.
    /// - Returns: whether there have been some for so long, and none of them was taken.
    mutating func isStuck(_ waiting: Int, for limit: Duration, now: ContinuousClock.Instant = .now) -> Bool {
        guard waiting > 0, sent - waiting <= taken else {
            taken = sent - waiting
            since = now
            return false
        }
        return now - since >= limit
    }
}
