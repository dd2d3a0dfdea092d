// SPDX-License-Identifier: Apache-2.0

extension KeyboardChord {
    /// Which keys make a chord: taps of one key, then a digit.
    package struct Definition: Sendable, Equatable {
        /// Usage ID of the key that is tapped.
        package let key: UInt8
        package let taps: Int
        /// From one tap to the next; and how long a tap that is none is held back.
        package var window: Duration = .milliseconds(500)
        /// From the last tap to the digit.
        package var digitWindow: Duration = .seconds(2)

        /// ScrollLock twice, then a digit.
        package static let standard = Definition(key: 0x47, taps: 2)

        package static let maximumTaps = 4

        private init(key: UInt8, taps: Int) {
            self.key = key
            self.taps = taps
        }

        /// As it's read.
        package var text: String {
            let name = KeyName.name(key)
            return (Array(repeating: name, count: taps) + ["digit"]).joined(separator: ",")
        }

        /// Reads text such as `scrolllock,scrolllock,digit`.
        package init(parsing text: String) throws(ChordError) {
            let words = text.lowercased().split(separator: ",", omittingEmptySubsequences: false).map {
                String($0.drop { $0 == " " }.prefix { $0 != " " })
            }
            guard words.last == "digit" else {
                throw ChordError("a chord ends with 'digit', not '\(words.last ?? "")'")
            }
            let names = words.dropLast()
            guard let name = names.first, (2...Self.maximumTaps).contains(names.count) else {
                throw ChordError("a chord begins with 2 to \(Self.maximumTaps) taps of a key, not \(names.count)")
            }
            guard names.allSatisfy({ $0 == name }) else {
                throw ChordError("a chord's taps are all of one key, but there are '\(Set(names).sorted())'")
            }
            guard let key = KeyName.usage(name) else {
                throw ChordError("no key '\(name)'; there are \(KeyName.all.joined(separator: ", "))")
            }
            self.init(key: key, taps: names.count)
        }
    }

    /// Why a chord's text was refused.
    package struct ChordError: Error, Sendable, Equatable, CustomStringConvertible {
        package let description: String
        init(_ description: String) { self.description = description }
    }

    /// The digit of a key in the top row or on the keypad; nil for another.
    static func digit(_ key: UInt8) -> UInt8? {
        switch key {
        case 0x1e...0x26: key - 0x1d
        case 0x59...0x61: key - 0x58
        case 0x27, 0x62: 0
        default: nil
        }
    }
}

/// Keys that may be tapped for a chord: none that types a character.
package enum KeyName {
    package static var all: [String] { table.map(\.0) + (1...24).map { "f\($0)" } }

    /// Its usage ID; nil for another.
    package static func usage(_ name: String) -> UInt8? {
        if let named = table.first(where: { $0.0 == name }) { return named.1 }
        guard name.first == "f", let number = UInt8(name.dropFirst()) else { return nil }
        return switch number {
        case 1...12: 0x39 + number
        case 13...24: 0x5b + number
        default: nil
        }
    }

    static func name(_ usage: UInt8) -> String {
        switch usage {
        case 0x3a...0x45: "f\(usage - 0x39)"
        case 0x68...0x73: "f\(usage - 0x5b)"
        default: table.first { $0.1 == usage }?.0 ?? ""
        }
    }

    private static let table: [(String, UInt8)] = [
        ("scrolllock", 0x47), ("pause", 0x48), ("printscreen", 0x46), ("capslock", 0x39), ("numlock", 0x53),
        ("insert", 0x49), ("menu", 0x65), ("leftctrl", 0xe0), ("leftshift", 0xe1), ("leftalt", 0xe2),
        ("leftmeta", 0xe3), ("rightctrl", 0xe4), ("rightshift", 0xe5), ("rightalt", 0xe6), ("rightmeta", 0xe7),
    ]
}
