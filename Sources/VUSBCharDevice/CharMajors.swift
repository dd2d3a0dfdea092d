// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Which numbers character devices get: each guest has a major number of its own, so that one rule of a device cgroup
/// (`c MAJOR:* rw`) lets a container have its guest's devices, those that come later too, and nobody else's. It stays
/// the guest's, after a restart of vusbd too, unless somebody else takes it while the guest has no device, or all others
/// are taken.
struct CharMajors {
    /// Major numbers that have devices now.
    struct Taken: Equatable {
        /// Only of ours.
        var own: Set<Int> = []
        /// Also of others.
        var foreign: Set<Int> = []
    }

    /// By guest: what it's given next.
    private var upcoming: [String: CharacterDeviceNumber] = [:]

    /// What the guest has from the last life of vusbd on. Two guests can't have the same.
    /// - Returns: whether it has.
    mutating func restore(_ major: Int, of guest: String) -> Bool {
        guard !upcoming.values.contains(where: { $0.major == major }) else { return false }
        upcoming[guest] = CharacterDeviceNumber(major: major, minor: 0)
        return upcoming[guest] != nil
    }

    /// The guest is gone for good: its number may be another's.
    mutating func forget(_ guest: String) { upcoming[guest] = nil }

    /// The guest's major number, also before it has a device; nil where none is left.
    mutating func major(of guest: String, taken: Taken) -> Int? {
        if let number = upcoming[guest], !taken.foreign.contains(number.major) { return number.major }
        let others = upcoming.filter { $0.key != guest }
        let known = Set(others.values.map(\.major))
        let free = Self.all.filter { !taken.own.contains($0) && !taken.foreign.contains($0) }
        guard let major = free.first(where: { !known.contains($0) }) ?? free.first else { return nil }
        // Of a guest that has no devices now, and gets others.
        for (other, number) in others where number.major == major { upcoming[other] = nil }
        upcoming[guest] = CharacterDeviceNumber(major: major, minor: 0)
        return major
    }

    /// Nil where none is left.
    mutating func next(of guest: String, taken: Taken) -> CharacterDeviceNumber? {
        guard major(of: guest, taken: taken) != nil, let number = upcoming[guest] else { return nil }
        // Beyond the last minor number it's another major's turn.
        upcoming[guest] = CharacterDeviceNumber(major: number.major, minor: number.minor + 1)
        return number
    }

    /// The kernel didn't want that: somebody was faster. Of a number that the guest has devices with already, the next minor
    /// number may do.
    mutating func refuse(_ number: CharacterDeviceNumber, of guest: String) {
        guard let next = upcoming[guest], next.major == number.major else { return }
        if number.minor == 0, next.minor == 1 { upcoming[guest] = nil }
    }

    /// Those first that the kernel gives last to drivers which ask for any.
    private static let all = CharacterDeviceNumber.majors.sorted { $0.lowerBound > $1.lowerBound }.flatMap(Array.init)
}

extension CharMajors.Taken {
    /// - Parameters:
    ///   - text: of /proc/devices.
    ///   - prefix: what names of ours begin with.
    init(_ text: String, prefix: String) {
        let lines = text.split(separator: "\n").prefix { !$0.hasPrefix("Block") }
        for line in lines {
            let words = line.split(separator: " ")
            guard words.count == 2, let major = Int(words[0]) else { continue }
            if words[1].hasPrefix(prefix) { own.insert(major) } else { foreign.insert(major) }
        }
        own.subtract(foreign)
    }
}
