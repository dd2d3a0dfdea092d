// SPDX-License-Identifier: Apache-2.0

/// What a module and a kernel must have in common (`include/linux/vermagic.h`): the release, then what of the
/// kernel's configuration changes its structures, such as `6.1.0-56-amd64 SMP preempt mod_unload modversions`.
package struct Vermagic: Sendable, Hashable, CustomStringConvertible {
    package let release: String
    package let flags: [String]

    /// Longer than any kernel's.
    private static let maximumLength = 256

    /// Nil unless it is printable ASCII and begins with something that can be a kernel's release.
    package init?(_ text: String) {
        guard text.utf8.count <= Self.maximumLength, text.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) else {
            return nil
        }
        let words = text.split(separator: " ").map { String($0) }
        guard let release = words.first, Self.isRelease(release) else { return nil }
        self.release = release
        flags = Array(words.dropFirst())
    }

    /// As `uname -r` prints it. It becomes part of paths and of messages.
    static func isRelease(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count) && text.first != "."
            && text.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != UInt8(ascii: "/") }
    }

    package var description: String { ([release] + flags).joined(separator: " ") }
}
