// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// Why a device isn't taken from its guest just now. Arbiter.md has the rows.
struct BusyReason: Sendable, Equatable {
    enum Row: String, Sendable {
        case held = "B1"
        case unflushed = "B2"
        case openFiles = "B3"
        case nodeUsers = "B4"
        case workedWith = "B5"
        case inFlight = "B7"
    }

    var row: Row
    /// Such as "2 endpoint files are open".
    var text: String
}

/// Somebody's word that a device isn't to be taken, for a time.
struct Hold: Sendable {
    /// Seconds.
    static let defaultLength = 600.0

    /// When it ends, by the clock on the wall: it's shown to people.
    var until: Double
    var end: ContinuousClock.Instant
    var reason: String?

    /// For so many seconds from now, by the wall clock.
    init(from now: Double, seconds: Double, reason: String?) {
        until = now + seconds
        end = .now + .seconds(seconds)
        self.reason = reason
    }

    var isOver: Bool { ContinuousClock.now >= end }
    var info: HoldInfo { HoldInfo(until: until, reason: reason) }
}
