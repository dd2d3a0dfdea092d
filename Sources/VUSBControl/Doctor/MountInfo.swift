// SPDX-License-Identifier: Apache-2.0

/// `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
enum MountInfo {
    /// The type of the file system that's mounted last on a directory; nil if nothing is.
    static func type(of directory: String, in text: String) -> String? {
        var found: String?
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            // "36 35 98:0 /root /mount/point options [optional fields...] - type source options"
            guard fields.count > 4, unescape(fields[4]) == directory, let dash = fields.firstIndex(of: "-"),
                dash + 1 < fields.count
            else { continue }
            found = String(fields[dash + 1])
        }
        return found
    }

    /// Space, tab, newline and backslash are `\` and three octal digits.
    private static func unescape(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = field.utf8[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), let code = UInt8(Substring(digits), radix: 8), digits.count == 3 {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
