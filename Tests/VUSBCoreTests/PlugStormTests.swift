// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

/// Q20 to Q23 of Health.md.
@Suite struct PlugStormTests {
    private static let second: UInt64 = 1_000_000_000
    private var storm: PlugStorm

    init() {
        var limits = HealthLimits()
        limits.disconnects = EventLimit(3, in: .seconds(60))
        limits.calm = .seconds(30)
        storm = PlugStorm(limits)
    }

    /// It comes, and goes a second later.
    private mutating func bounce(at second: UInt64) -> Misbehaviour? {
        #expect(storm.record(.arrived, at: second * Self.second) == nil)
        return storm.record(.left, at: (second + 1) * Self.second)
    }

    @Test mutating func `Q20: the departure that is too many is told, once`() {
        #expect(bounce(at: 100) == nil)
        #expect(bounce(at: 102) == nil)
        #expect(!storm.isStorm(at: 103 * Self.second))
        let verdict = bounce(at: 104)
        #expect(verdict == .plugStorm(3, within: .seconds(60)))
        #expect(verdict?.description == "disconnected 3 times in 60 s")
        #expect(bounce(at: 106) == nil)
        #expect(storm.isStorm(at: 107 * Self.second))
    }

    @Test mutating func `Q21: every change makes the storm last longer`() {
        for second in [100, 102, 104] as [UInt64] { _ = bounce(at: second) }
        #expect(storm.calmTime == 135 * Self.second)
        #expect(storm.record(.arrived, at: 134 * Self.second) == nil)
        #expect(storm.isStorm(at: 163 * Self.second))
        #expect(storm.calmTime == 164 * Self.second)
    }

    @Test mutating func `Q22: after the calm the port is as new`() {
        for second in [100, 102, 104] as [UInt64] { _ = bounce(at: second) }
        #expect(!storm.isStorm(at: 135 * Self.second))
        #expect(bounce(at: 136) == nil)
        #expect(bounce(at: 138) == nil)
        #expect(storm.calmTime == nil)
        #expect(bounce(at: 140) == .plugStorm(3, within: .seconds(60)))
    }

    @Test mutating func `Q23: a device that comes back now and then is no storm`() {
        for minute in 1..<100 as Range<UInt64> { #expect(bounce(at: minute * 31) == nil) }
    }

    @Test func `Q8: without a limit there is no storm`() {
        var storm = PlugStorm(.off)
        for second in 0..<1000 as Range<UInt64> { #expect(storm.record(.left, at: second) == nil) }
        #expect(!storm.isStorm(at: 1000))
    }
}
