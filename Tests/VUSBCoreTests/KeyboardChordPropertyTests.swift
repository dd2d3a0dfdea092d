// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

/// What holds for any order of events: random typing, with a filter between a keyboard and a guest.
@Suite("KeyboardChord.md: random typing")
struct KeyboardChordPropertyTests {
    /// ScrollLock often, digits, letters, and modifiers as bits of 0xe0 on.
    private static let keys: [UInt8] = [0x47, 0x47, 0x47, 0x47, 0x1e, 0x1f, 0x62, 0x04, 0x05, 0xe1, 0xe4]

    private struct Typist {
        var generator: SplitMix
        var chord = KeyboardChord()
        var now = ContinuousClock.now
        var pressed: Set<UInt8> = []
        /// In the order in which they were pressed.
        var order: [UInt8] = []
        var chords = 0
        /// Keys down when the last chord was complete, and in every report since.
        var hidden: Set<UInt8> = []
        var guest: Set<UInt8> = []
        /// All that the guest saw, and all that the keyboard sent, as sets of keys without repetitions.
        var seen: [Set<UInt8>] = [[]]
        var typed: [Set<UInt8>] = [[]]

        init(_ seed: UInt64) { generator = SplitMix(seed) }

        var report: [UInt8] {
            let modifiers = pressed.filter { $0 >= 0xe0 }.reduce(0 as UInt8) { $0 | 1 << ($1 - 0xe0) }
            let keys = order.filter { $0 < 0xe0 }
            return [modifiers, 0] + keys + Array(repeating: 0, count: 6 - keys.count)
        }

        mutating func toggle(_ key: UInt8) {
            if pressed.remove(key) != nil {
                order.removeAll { $0 == key }
            } else if order.count < 6 {
                pressed.insert(key)
                order.append(key)
            }
        }

        mutating func send() {
            hidden.formIntersection(pressed)
            if typed.last != pressed { typed.append(pressed) }
            take(chord.see(report, at: now))
        }

        mutating func pass(_ duration: Duration, punctually: Bool) {
            now += duration
            if punctually, let deadline = chord.deadline, deadline <= now { take(chord.expire(at: deadline)) }
        }

        mutating func take(_ outputs: [KeyboardChord.Output]) {
            for output in outputs {
                switch output {
                case .report(let report):
                    guest = Set((0..<8).filter { report[0] & 1 << $0 != 0 }.map { 0xe0 + UInt8($0) })
                        .union(report[2...].filter { $0 > 0 })
                    if seen.last != guest { seen.append(guest) }
                    #expect(guest.isDisjoint(with: hidden))
                case .chord:
                    // Nothing is left pressed with the old guest.
                    #expect(guest == [])
                    chords += 1
                    hidden = pressed
                }
            }
        }

        mutating func step() {
            let keys = KeyboardChordPropertyTests.keys
            // A second change within one report now and then; a repetition; sometimes a chord as it should be.
            switch generator.next() % 12 {
            case 0: break
            case 1:
                toggle(keys[Int(generator.next() % UInt64(keys.count))])
                toggle(keys[Int(generator.next() % UInt64(keys.count))])
            case 2: return typeChord()
            default: toggle(keys[Int(generator.next() % UInt64(keys.count))])
            }
            send()
            let pause = [10, 40, 200, 600, 2500][Int(generator.next() % 5)]
            pass(.milliseconds(pause), punctually: generator.next() % 2 == 0)
        }

        mutating func typeChord() {
            for key: UInt8 in [0x47, 0x47, 0x47, 0x47, 0x1f] {
                toggle(key)
                send()
                pass(.milliseconds(30), punctually: true)
            }
        }
    }

    @Test("what the guest sees is what is pressed, but for what a chord hides", arguments: 0..<10)
    func view(_ seed: UInt64) {
        var typist = Typist(seed)
        for _ in 0..<400 {
            typist.step()
            if typist.chord.deadline == nil {
                #expect(typist.guest == typist.pressed.subtracting(typist.hidden))
            }
        }
        for key in typist.pressed {
            typist.toggle(key)
            typist.send()
        }
        typist.pass(.seconds(3), punctually: true)
        #expect(typist.guest == [])
    }

    @Test("where no chord is complete, nothing that is typed is lost, added or in another order", arguments: 0..<40)
    func order(_ seed: UInt64) {
        var typist = Typist(seed)
        var steps = 0
        while typist.chords == 0, steps < 200 {
            typist.pass(.seconds(3), punctually: true)
            #expect(typist.seen == typist.typed)
            typist.step()
            steps += 1
        }
        #expect(steps > 0)
    }

    @Test("random reports of any length neither trap nor keep what they brought", arguments: 0..<10)
    func garbage(_ seed: UInt64) {
        var generator = SplitMix(seed)
        var chord = KeyboardChord(reportLength: Int(generator.next() % 80))
        var now = ContinuousClock.now
        for _ in 0..<500 {
            let count = Int(generator.next() % 70)
            let report = (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next() % 3 == 0 ? 0x47 : 0) }
            #expect(chord.see(report, at: now).count <= 2 * 4 + 3)
            now += .milliseconds(Int(generator.next() % 400))
        }
        _ = chord.giveUp()
        #expect(chord.deadline == nil)
    }
}
