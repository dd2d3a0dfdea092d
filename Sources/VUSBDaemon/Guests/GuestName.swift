// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// The rule for guests' names: they are directories under /vusb and parts of paths of the control interface.
enum GuestName {
    static let rule = "[a-z0-9][a-z0-9-]{0,62}"

    static func isValid(_ name: String) -> Bool {
        let bytes = name.utf8
        guard (1...63).contains(bytes.count), bytes.first != UInt8(ascii: "-") else { return false }
        return bytes.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
        }
    }

    static func check(_ name: String) throws(Problem) {
        guard isValid(name) else {
            throw Problem(
                .malformed,
                "\(quoted(name)) is no name for a guest",
                remedy: "names are \(rule): 1 to 63 lower-case letters, digits and hyphens, no hyphen first"
            )
        }
    }
}
