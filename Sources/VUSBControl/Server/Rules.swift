// SPDX-License-Identifier: Apache-2.0

/// What `openapi.yaml` says of values beyond their types, as code; a test compares the two.
package enum Rules {
    /// The longest name of a device in a path, in Unicode scalars.
    static let longestDeviceName = 255
    static let mostKeys = 256
    /// By their names; others are named by the character that they type.
    private static let keys: Set<String> = Set(
        ["scrolllock", "pause", "printscreen", "capslock", "numlock", "insert", "menu"]
            + ["left", "right"].flatMap { side in ["ctrl", "shift", "alt", "meta"].map { side + $0 } }
            + (1...24).map { "f\($0)" })

    static func isKey(_ name: String) -> Bool {
        let scalars = name.unicodeScalars
        return keys.contains(name) || (scalars.count == 1 && scalars.allSatisfy { (0x20...0x7e).contains($0.value) })
    }

    static let longestText = 4096
    static let longestSpecification = 1024
    /// That a guest may list.
    package static let mostDevices = 64
    /// Seconds.
    package static let deadlines = 0.0...3600.0
    /// Seconds.
    package static let heartbeats = 1.0...3600.0
    /// Seconds.
    static let waits = 0.0...60.0
    /// As with Linux's real-time scheduling, the greater is the more important.
    package static let priorities = 0...99
    /// What a guest may use at once.
    package static let limits = 1...1_000_000_000_000
    /// Of a hold, in Unicode scalars.
    static let longestReason = 200
    /// Seconds that a device can be held.
    package static let holds = 1.0...86_400.0
    /// PID_MAX_LIMIT of Linux.
    package static let processes = 1...4_194_304

    /// `^[a-z0-9][a-z0-9-]{0,62}$`: it becomes a directory's name.
    package static func isGuestName(_ name: String) -> Bool {
        let bytes = name.utf8
        guard let first = bytes.first, first != UInt8(ascii: "-"), bytes.count <= 63 else { return false }
        return bytes.allSatisfy { isLowerAlphanumeric($0) || $0 == UInt8(ascii: "-") }
    }

    static func guestName(_ name: String, _ field: String = "guest") throws(Problem) -> String {
        guard isGuestName(name) else {
            throw Problem(
                .malformed, "\(field) '\(shortened(name))' isn't a guest's name",
                remedy: "use 1 to 63 of a-z, 0-9 and -, not beginning with -")
        }
        return name
    }

    static func deviceName(_ name: String, _ field: String = "device") throws(Problem) -> String {
        let scalars = name.unicodeScalars
        guard !scalars.isEmpty, scalars.count <= longestDeviceName, scalars.allSatisfy({ !isControl($0) }) else {
            throw Problem(
                .malformed, "\(field) '\(shortened(name))' isn't a device's name",
                remedy: "use a device id, VID:PID or VID:PID:SERIAL of at most \(longestDeviceName) characters")
        }
        return name
    }

    /// A user or group, by name or number: `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$`.
    static func account(_ name: String, _ field: String) throws(Problem) {
        let bytes = Array(name.utf8)
        let extra = [UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-")]
        let fits = bytes.allSatisfy { isAlphanumeric($0) || extra.contains($0) }
        guard fits, (1...32).contains(bytes.count), bytes[0] != extra[1], bytes[0] != extra[2] else {
            throw Problem(.malformed, "field '\(field)' isn't a name or number of an account")
        }
    }

    /// `^0?[0-7]{3}$`
    static func fileMode(_ mode: String) throws(Problem) {
        let digits = Array(mode.utf8)
        let octal = digits.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "7")).contains($0) }
        guard octal, digits.count == 3 || (digits.count == 4 && digits[0] == UInt8(ascii: "0")) else {
            throw Problem(.malformed, "field 'fileMode' isn't octal permission bits", remedy: "write such as 0660")
        }
    }

    static func choice(_ value: String?, of choices: [String], _ field: String) throws(Problem) {
        guard let value, !choices.contains(value) else { return }
        throw Problem(
            .malformed, "field '\(field)' is '\(shortened(value))'",
            remedy: "use \(choices.joined(separator: " or "))")
    }

    /// Lower and upper bound belong to the range.
    static func within<Value: Comparable>(
        _ range: ClosedRange<Value>, _ value: Value?, _ field: String
    ) throws(Problem) {
        guard let value, !range.contains(value) else { return }
        throw Problem(.malformed, "\(field) isn't from \(range.lowerBound) to \(range.upperBound)")
    }

    /// A non-negative integer in decimal digits, without a sign or leading zeros; nil if it isn't one that fits.
    static func integer<Value: FixedWidthInteger>(_ text: String, as type: Value.Type = Value.self) -> Value? {
        let digits = text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        guard digits, text == "0" || text.first != "0" else { return nil }
        return Value(text)
    }

    /// C0 controls and DEL.
    static func isControl(_ scalar: Unicode.Scalar) -> Bool { scalar.value < 0x20 || scalar.value == 0x7f }

    /// For messages: what a client sent may be long.
    static func shortened(_ text: String) -> String {
        text.unicodeScalars.count <= 80 ? text : String(text.prefix(80)) + "..."
    }

    private static func isLowerAlphanumeric(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    static func isAlphanumeric(_ byte: UInt8) -> Bool {
        isLowerAlphanumeric(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
    }
}
