// SPDX-License-Identifier: Apache-2.0

/// One line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)):
///
///     36 35 98:0 /root /mount/point options [optional fields...] - type source options
package struct MountInfoLine: Equatable, Sendable {
    /// `major:minor`
    package let device: String
    package let mountPoint: String
    package let type: String
    /// Such as `/dev/sda1`; may be empty.
    package let source: String

    /// Nil for a line that is cut short.
    package init?(_ line: Substring) {
        // A source may be empty, and then counts all the same.
        let fields = line.split(separator: " ", omittingEmptySubsequences: false)
        guard let dash = fields.dropFirst(6).firstIndex(of: "-"), dash + 2 < fields.count else { return nil }
        device = String(fields[2])
        mountPoint = Self.unescape(fields[4])
        type = Self.unescape(fields[dash + 1])
        source = Self.unescape(fields[dash + 2])
    }

    /// All lines of the file, in its order: what is mounted later stands behind.
    package static func all(in text: String) -> [MountInfoLine] {
        text.split(separator: "\n").compactMap { MountInfoLine($0) }
    }

    /// The kernel writes blanks, tabs, newlines and backslashes as `\` and three octal digits.
    private static func unescape(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = field.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), let value = octal(rest.prefix(3)) {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Nil unless these are three octal digits that fit into a byte.
    private static func octal(_ digits: Substring.UTF8View) -> UInt8? {
        let zero = UInt8(ascii: "0")
        guard digits.count == 3, digits.allSatisfy({ (zero...zero + 7).contains($0) }) else { return nil }
        return UInt8(exactly: digits.reduce(0) { $0 << 3 | Int($1 - zero) })
    }
}
