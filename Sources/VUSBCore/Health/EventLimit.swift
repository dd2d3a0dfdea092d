// SPDX-License-Identifier: Apache-2.0

/// How often something may happen: fewer than `count` times in any `window`.
package struct EventLimit: Sendable, Equatable {
    /// The one that is too many; 0 or less is no limit.
    package var count: Int
    package var window: Duration
    /// How long it must have been going on, too: a burst that is over by then doesn't count. Zero for at once.
    package var lasting: Duration

    package init(_ count: Int, in window: Duration, lasting: Duration = .zero) {
        self.count = count
        self.window = window
        self.lasting = lasting
    }

    package static let off = EventLimit(0, in: .zero)

    package var isOff: Bool { count <= 0 || window <= .zero }
}

extension Duration {
    /// As an `AlarmClock` counts; from 0 to about 292 years.
    var clockNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        return UInt64(min(seconds, 9_000_000_000)) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }

    /// For people: `10 s`, `0.5 s`.
    var inSeconds: String {
        let (seconds, attoseconds) = components
        let tenths = attoseconds / 100_000_000_000_000_000
        return tenths == 0 ? "\(seconds) s" : "\(seconds).\(tenths) s"
    }
}
