// SPDX-License-Identifier: Apache-2.0

/// A rate of bytes. Whoever finds it above zero takes all that it needs, also into debt, and the next waits until the
/// debt is paid: so that a transfer is never too long for the rate, and the rate still holds on average.
struct TokenBucket {
    private let bytesPerSecond: Int
    private var tokens: Int
    private var filledAt: UInt64

    /// What is saved up at most: a tenth of a second's.
    private var capacity: Int { max(1, bytesPerSecond / 10) }
    /// Keeps the arithmetic below within 64 bits: the largest rate and the largest debt.
    private static let rateLimit = 1 << 40
    private static let debtLimit = 1 << 32

    init(bytesPerSecond: Int, now: UInt64) {
        self.bytesPerSecond = min(max(1, bytesPerSecond), Self.rateLimit)
        tokens = max(1, bytesPerSecond / 10)
        filledAt = now
    }

    /// Nil where it may be taken from now, else when.
    mutating func readyTime(_ now: UInt64) -> UInt64? {
        fill(now)
        guard tokens <= 0 else { return nil }
        return now + Self.scaled(1 - tokens, by: 1_000_000_000, over: bytesPerSecond) + 1
    }

    mutating func take(_ count: Int) { tokens = max(tokens - count, -Self.debtLimit) }

    /// What was taken and not used.
    mutating func putBack(_ count: Int) { tokens = min(capacity, tokens + count) }

    private mutating func fill(_ now: UInt64) {
        guard now > filledAt else { return }
        let elapsed = Int(min(now - filledAt, 1 << 52))
        let gain = Int(Self.scaled(elapsed, by: bytesPerSecond, over: 1_000_000_000))
        guard gain > 0 else { return }
        // Only the time that made whole tokens is used up, else frequent looks at a slow rate would never fill it.
        filledAt += Self.scaled(gain, by: 1_000_000_000, over: bytesPerSecond)
        tokens = min(capacity, tokens + gain)
    }

    private static func scaled(_ value: Int, by factor: Int, over divisor: Int) -> UInt64 {
        UInt64(divisor).dividingFullWidth(UInt64(value).multipliedFullWidth(by: UInt64(factor))).quotient
    }
}
