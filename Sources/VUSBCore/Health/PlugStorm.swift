// SPDX-License-Identifier: Apache-2.0

/// Whether devices come and go at a port faster than anybody plugs: one for each port, a value without a clock or a
/// lock.
package struct PlugStorm: Sendable {
    package enum Event: Sendable {
        case arrived
        case left
    }

    private let limit: EventLimit
    private let calm: UInt64
    private var departures = EventCount()
    /// When the port changed last.
    private var changedAt: UInt64 = 0
    private var isStorm = false

    /// Reads `disconnects` and `calm`.
    package init(_ limits: HealthLimits) {
        limit = limits.disconnects
        calm = limits.calm.clockNanoseconds
    }

    /// - Parameter now: nanoseconds of a clock that never goes back, the same for all events.
    /// - Returns: why the port is to be left alone from now on: once a storm, with the departure that is one too many.
    package mutating func record(_ event: Event, at now: UInt64) -> Misbehaviour? {
        endIfCalm(at: now)
        changedAt = now
        guard event == .left, departures.add(at: now, limit), !isStorm else { return nil }
        isStorm = true
        return .plugStorm(departures.count, within: limit.window)
    }

    /// Whether the port is to be left alone now.
    package func isStorm(at now: UInt64) -> Bool { calmTime.map { now < $0 } ?? false }

    /// When the storm will be over unless the port changes again; nil without one.
    package var calmTime: UInt64? { isStorm ? changedAt + calm : nil }

    /// Whether nothing that has happened there counts any more.
    package func isOver(at now: UInt64) -> Bool {
        !isStorm(at: now) && now >= changedAt + limit.window.clockNanoseconds
    }

    private mutating func endIfCalm(at now: UInt64) {
        guard isStorm, !isStorm(at: now) else { return }
        isStorm = false
        departures.clear()
    }
}
