// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

/// The rows of KeyboardChord.md.
@Suite("KeyboardChord.md")
struct KeyboardChordTests {
    private static let a: UInt8 = 0x04
    private static let scroll: UInt8 = 0x47
    private static let one: UInt8 = 0x1e
    private static let two: UInt8 = 0x1f
    private static let leftShift: UInt8 = 0x02

    /// A keyboard at its filter, with a clock.
    private struct Desk {
        var chord: KeyboardChord
        var now = ContinuousClock.now
        var outputs: [KeyboardChord.Output] = []

        init(_ definition: KeyboardChord.Definition = .standard, reportLength: Int = 8) {
            chord = KeyboardChord(definition, reportLength: reportLength)
        }

        mutating func press(_ keys: UInt8..., modifiers: UInt8 = 0) { see(report(keys, modifiers)) }

        mutating func see(_ report: [UInt8]) {
            now += .milliseconds(20)
            outputs += chord.see(report, at: now)
        }

        mutating func tap(_ key: UInt8, modifiers: UInt8 = 0) {
            press(key, modifiers: modifiers)
            press(modifiers: modifiers)
        }

        /// Whoever has the filter calls it at the deadline.
        mutating func wait(_ duration: Duration) {
            let end = now + duration
            while let deadline = chord.deadline, deadline <= end {
                now = deadline
                outputs += chord.expire(at: now)
            }
            now = end
        }

        /// What has come since the last time.
        mutating func taken() -> [KeyboardChord.Output] {
            defer { outputs = [] }
            return outputs
        }
    }

    private static func report(_ keys: [UInt8], _ modifiers: UInt8 = 0) -> [UInt8] {
        [modifiers, 0] + keys + Array(repeating: 0, count: 6 - keys.count)
    }

    private static func reports(_ keys: [UInt8]...) -> [KeyboardChord.Output] { keys.map { .report(report($0)) } }

    @Test("K1: other keys pass at once, as they are, repetitions too")
    func passes() {
        var desk = Desk()
        desk.tap(Self.a)
        desk.press()
        desk.press(Self.a, modifiers: Self.leftShift)
        #expect(
            desk.taken() == Self.reports([Self.a], [], []) + [.report(Self.report([Self.a], Self.leftShift))])
        #expect(desk.chord.deadline == nil)
    }

    @Test("K2: the chord: nothing of it reaches the guest", arguments: [(UInt8(0x1e), UInt8(1)), (0x27, 0), (0x61, 9)])
    func complete(_ key: UInt8, _ digit: UInt8) {
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.tap(Self.scroll)
        #expect(desk.taken() == [])
        desk.press(key)
        #expect(desk.taken() == [.chord(digit)])
        desk.press()
        desk.wait(.seconds(10))
        #expect(desk.taken() == [])
        desk.tap(Self.a)
        #expect(desk.taken() == Self.reports([Self.a], []))
    }

    @Test("K2: the digit comes before the last tap is released")
    func overlapping() {
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.press(Self.scroll)
        desk.press(Self.scroll, Self.two)
        #expect(desk.taken() == [.chord(2)])
        desk.press(Self.two)
        desk.press()
        #expect(desk.taken() == [])
        desk.tap(Self.scroll)
        desk.press(Self.scroll)
        desk.press(Self.two)
        #expect(desk.taken() == [.chord(2)])
    }

    @Test("K3: one tap is replayed when the time is over, pressed or released as it is by then")
    func oneTap() {
        var desk = Desk()
        desk.tap(Self.scroll)
        // The first tap was 20 ms ago.
        desk.wait(.milliseconds(479))
        #expect(desk.taken() == [])
        desk.wait(.milliseconds(1))
        #expect(desk.taken() == Self.reports([Self.scroll], []))
        desk.press(Self.scroll)
        desk.wait(.milliseconds(500))
        #expect(desk.taken() == Self.reports([Self.scroll]))
        desk.press()
        #expect(desk.taken() == Self.reports([]))
    }

    @Test("K3: a second tap after the time begins anew")
    func lateTap() {
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.wait(.milliseconds(600))
        desk.tap(Self.scroll)
        desk.press(Self.one)
        #expect(desk.taken() == Self.reports([Self.scroll], [], [Self.scroll], [], [Self.one]))
    }

    @Test("K3: nobody called expire in time: the next report does it")
    func lateExpiry() {
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.now += .seconds(1)
        desk.press(Self.scroll)
        #expect(desk.taken() == Self.reports([Self.scroll], []))
        #expect(desk.chord.deadline == desk.now + .milliseconds(500))
    }

    @Test("K3: two taps are replayed when no digit comes")
    func noDigit() {
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.tap(Self.scroll)
        desk.wait(.milliseconds(1979))
        #expect(desk.taken() == [])
        desk.wait(.milliseconds(1))
        #expect(desk.taken() == Self.reports([Self.scroll], [], [Self.scroll], []))
    }

    @Test("K4: another key: all is replayed, and the key follows", arguments: [1, 2])
    func otherKey(_ taps: Int) {
        var desk = Desk()
        for _ in 0..<taps { desk.tap(Self.scroll) }
        desk.tap(Self.a)
        let tap = Self.reports([Self.scroll], [])
        #expect(desk.taken() == (taps == 1 ? tap : tap + tap) + Self.reports([Self.a], []))
    }

    @Test("K4: a digit after one tap, two keys at once, and a modifier are other keys")
    func notQuite() {
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.tap(Self.one)
        #expect(desk.taken() == Self.reports([Self.scroll], [], [Self.one], []))
        desk.tap(Self.scroll)
        desk.tap(Self.scroll)
        desk.press(Self.one, Self.two)
        #expect(desk.taken() == Self.reports([Self.scroll], [], [Self.scroll], [], [Self.one, Self.two]))
        desk.press()
        _ = desk.taken()
        desk.tap(Self.scroll)
        desk.press(modifiers: Self.leftShift)
        #expect(
            desk.taken() == Self.reports([Self.scroll], []) + [.report(Self.report([], Self.leftShift))])
    }

    @Test("K5: a third tap: the first two were none, and it begins anew")
    func thirdTap() {
        var desk = Desk()
        for _ in 0..<4 { desk.tap(Self.scroll) }
        #expect(desk.taken() == Self.reports([Self.scroll], [], [Self.scroll], []))
        desk.press(Self.one)
        #expect(desk.taken() == [.chord(1)])
    }

    @Test("K6: a key is held: the chord's key is no tap; also where one is released with it")
    func held() {
        var desk = Desk()
        desk.press(Self.a)
        desk.press(Self.a, Self.scroll)
        desk.press(Self.a)
        #expect(desk.taken() == Self.reports([Self.a], [Self.a, Self.scroll], [Self.a]))
        desk.press(Self.scroll)
        #expect(desk.taken() == Self.reports([Self.scroll]))
    }

    @Test("K7: modifiers: the old guest sees them released, the new one sees them when they are pressed anew")
    func modifiers() {
        var desk = Desk()
        desk.press(modifiers: Self.leftShift)
        _ = desk.taken()
        desk.tap(Self.scroll, modifiers: Self.leftShift)
        desk.tap(Self.scroll, modifiers: Self.leftShift)
        desk.press(Self.one, modifiers: Self.leftShift)
        #expect(desk.taken() == Self.reports([]) + [.chord(1)])
        desk.press(modifiers: Self.leftShift)
        #expect(desk.taken() == [])
        desk.press(Self.a, modifiers: Self.leftShift)
        #expect(desk.taken() == Self.reports([Self.a]))
        desk.press(Self.a)
        #expect(desk.taken() == [])
        desk.press(Self.a, modifiers: Self.leftShift)
        #expect(desk.taken() == [.report(Self.report([Self.a], Self.leftShift))])
    }

    @Test("K8: the digit is held: other keys pass without it, and a new chord may begin")
    func digitHeld() {
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.tap(Self.scroll)
        desk.press(Self.one)
        desk.press(Self.one, Self.a)
        desk.press(Self.one)
        #expect(desk.taken() == [.chord(1)] + Self.reports([Self.a], []))
        desk.press(Self.one, Self.scroll)
        desk.press(Self.scroll)
        desk.press()
        desk.tap(Self.scroll)
        desk.press(Self.two)
        #expect(desk.taken() == [.chord(2)])
    }

    @Test("K9: repetitions of a report while one is withheld are dropped, and don't end the chord")
    func repetitions() {
        var desk = Desk()
        for keys in [[Self.scroll], [], [Self.scroll], []] {
            desk.see(Self.report(keys))
            desk.see(Self.report(keys))
        }
        desk.press(Self.one)
        #expect(desk.taken() == [.chord(1)])
    }

    @Test("K10: a keyboard that doesn't know what is pressed: replayed, and passed on unless a key is hidden")
    func rollOver() {
        let rollOver = [UInt8](repeating: 1, count: 8)
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.see(rollOver)
        #expect(desk.taken() == Self.reports([Self.scroll], []) + [.report(rollOver)])
        desk.tap(Self.scroll)
        desk.tap(Self.scroll)
        desk.press(Self.one)
        desk.see(rollOver)
        desk.press(Self.one)
        desk.press()
        #expect(desk.taken() == [.chord(1)])
    }

    @Test("K11: a report of another length is another one's: replayed first, then passed on")
    func otherLength() {
        var desk = Desk()
        desk.tap(Self.scroll)
        desk.see([3, 0x47])
        #expect(desk.taken() == Self.reports([Self.scroll], []) + [.report([3, 0x47])])
    }

    @Test("K11: a longer report: what is behind the boot report passes, and is empty while a key is hidden")
    func longReport() {
        let tail: [UInt8] = [0xff, 0xee]
        var desk = Desk(reportLength: 10)
        func long(_ keys: UInt8...) -> [UInt8] { Self.report(keys) + tail }
        for keys in [[Self.scroll], [], [Self.scroll], []] { desk.see(Self.report(keys) + tail) }
        desk.see(long(Self.one))
        desk.see(long(Self.one, Self.a))
        #expect(desk.taken() == [.chord(1), .report(Self.report([Self.a]) + [0, 0])])
        desk.see(long(Self.a))
        desk.see(long())
        #expect(desk.taken() == [.report(long())])
    }

    @Test("K12: a drain: what is withheld goes out now; a reset: nobody waits for it")
    func giveUp() {
        var desk = Desk()
        desk.press(Self.scroll)
        #expect(desk.chord.giveUp() == Self.reports([Self.scroll]))
        #expect(desk.chord.giveUp() == [])
        desk.press()
        #expect(desk.taken() == Self.reports([]))
        desk.press(Self.scroll)
        desk.chord.reset()
        #expect(desk.chord.deadline == nil)
        desk.press(Self.a)
        #expect(desk.taken() == Self.reports([Self.a]))
    }

    // MARK: - The text

    @Test("chords are read from text")
    func text() throws {
        #expect(try KeyboardChord.Definition(parsing: "scrolllock,scrolllock,digit") == .standard)
        let other = try KeyboardChord.Definition(parsing: "RightCtrl, rightctrl, rightctrl, digit")
        #expect(other.key == 0xe4)
        #expect(other.taps == 3)
        #expect(try KeyboardChord.Definition(parsing: "f1,f1,digit").key == 0x3a)
        #expect(try KeyboardChord.Definition(parsing: "f24,f24,digit").key == 0x73)
    }

    @Test(
        "text that is no chord is refused, and says why",
        arguments: [
            ("", "ends with 'digit'"), ("digit", "2 to 4 taps"), ("scrolllock,digit", "2 to 4 taps"),
            ("pause,pause,pause,pause,pause,digit", "2 to 4 taps"), ("pause,pause", "ends with 'digit'"),
            ("pause,insert,digit", "all of one key"), ("a,a,digit", "no key 'a'"), ("f25,f25,digit", "no key 'f25'"),
            ("f0,f0,digit", "no key 'f0'"), ("f-1,f-1,digit", "no key 'f-1'"), (",,digit", "no key ''"),
        ])
    func refused(_ text: String, _ reason: String) {
        let error = #expect(throws: KeyboardChord.ChordError.self) { try KeyboardChord.Definition(parsing: text) }
        #expect(error?.description.contains(reason) == true)
    }

    @Test("a modifier may be the chord's key")
    func modifierChord() throws {
        var desk = Desk(try KeyboardChord.Definition(parsing: "rightctrl,rightctrl,digit"))
        desk.press(modifiers: 0x10)
        desk.press()
        desk.press(modifiers: 0x10)
        desk.press()
        desk.press(Self.one)
        #expect(desk.taken() == [.chord(1)])
        desk.press()
        desk.press(modifiers: 0x10)
        desk.press(Self.a, modifiers: 0x10)
        #expect(
            desk.taken() == [.report(Self.report([], 0x10)), .report(Self.report([Self.a], 0x10))])
    }
}
