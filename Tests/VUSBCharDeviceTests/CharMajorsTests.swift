// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@testable import VUSBCharDevice

/// What expectations can change.
private final class Given {
    private var majors = CharMajors()

    func next(of guest: String, own: Set<Int> = [], foreign: Set<Int> = []) -> CharacterDeviceNumber? {
        majors.next(of: guest, taken: CharMajors.Taken(own: own, foreign: foreign))
    }

    func refuse(_ number: CharacterDeviceNumber, of guest: String) { majors.refuse(number, of: guest) }
}

@Suite("major numbers of character devices")
struct CharMajorsTests {
    @Test("each guest has a major number of its own, and its devices minor numbers that none had before")
    func own() throws {
        let majors = Given()
        let first = try #require(majors.next(of: "a"))
        let second = try #require(majors.next(of: "b", own: [first.major]))
        let third = try #require(majors.next(of: "a", own: [first.major, second.major]))
        #expect(first.major != second.major)
        #expect(third == CharacterDeviceNumber(major: first.major, minor: first.minor + 1))
    }

    @Test("a guest's number stays its own while it has no device")
    func kept() throws {
        let majors = Given()
        let first = try #require(majors.next(of: "a"))
        #expect(majors.next(of: "b")?.major != first.major)
        #expect(majors.next(of: "a")?.major == first.major)
    }

    @Test("unless somebody else has taken it meanwhile")
    func lost() throws {
        let majors = Given()
        let first = try #require(majors.next(of: "a"))
        let second = try #require(majors.next(of: "a", foreign: [first.major]))
        #expect(second.major != first.major)
        #expect(majors.next(of: "a", own: [second.major], foreign: [first.major])?.major == second.major)
    }

    @Test("numbers of other drivers are never given")
    func taken() {
        let majors = Given()
        let most = Set(234...254).union(384...510)
        #expect(majors.next(of: "a", foreign: most)?.major == 511)
        #expect(majors.next(of: "b", own: [511], foreign: most) == nil)
    }

    @Test("when all were given, a guest without devices loses its own")
    func reused() throws {
        let majors = Given()
        let most = Set(234...254).union(384...510)
        #expect(majors.next(of: "a", foreign: most)?.major == 511)
        #expect(majors.next(of: "b", foreign: most)?.major == 511)
        #expect(majors.next(of: "a", own: [511], foreign: most) == nil)
    }

    @Test(
        "one that the kernel refuses is given up, but not for the sake of a minor number, nor once it was given again")
    func refused() throws {
        let majors = Given()
        let first = try #require(majors.next(of: "a"))
        majors.refuse(first, of: "a")
        let second = try #require(majors.next(of: "a", foreign: [first.major]))
        #expect(second.major != first.major)
        let third = try #require(majors.next(of: "a"))
        majors.refuse(second, of: "a")
        majors.refuse(third, of: "a")
        #expect(majors.next(of: "a")?.major == second.major)
    }

    @Test("of /proc/devices the character devices count, by whose they are")
    func parsing() {
        let text = """
            Character devices:
              1 mem
             10 misc
            384 vusb-7-a-1-1-1
            384 vusb-7-a-1-2-2
            385 vusb-7-b-1-1-3
            385 other
            386 vusb-8-a-1-1-1

            Block devices:
              8 sd
            254 virtblk

            """
        let taken = CharMajors.Taken(text, prefix: "vusb-7-")
        #expect(taken == CharMajors.Taken(own: [384], foreign: [1, 10, 385, 386]))
        #expect(CharMajors.Taken("", prefix: "vusb-7-") == CharMajors.Taken())
    }

    @Test("a guest has its number from the last life, and before it has a device; two can't have one")
    func restored() {
        var majors = CharMajors()
        let have = [majors.restore(384, of: "a"), majors.restore(384, of: "b"), majors.restore(3, of: "c")]
        #expect(have == [true, false, false])
        let none = CharMajors.Taken()
        let known = ["a", "b", "c"].map { majors.major(of: $0, taken: none) }
        #expect(known.first == 384)
        #expect(Set(known).count == 3 && !known.contains(nil) && !known.contains(3))
        let next = ["a", "b"].map { majors.next(of: $0, taken: none) }
        #expect(next == [CharacterDeviceNumber(major: 384, minor: 0), next.last.flatMap { $0 }])
        #expect(next.last??.major == known[1])
        // Somebody else has taken it while vusbd was away.
        let moved = majors.major(of: "a", taken: CharMajors.Taken(foreign: [384]))
        #expect(moved != nil && moved != 384)
    }
}
