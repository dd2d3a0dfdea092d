// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBControl

/// Users and groups of the host, by name or number.
enum HostAccounts {
    /// The longest name that is looked up.
    private static let limit = 256
    /// Room for a user's strings.
    private static let scratchBytes = 1 << 16

    /// Nil where there is no such user. A number needs no entry in the user database.
    static func user(_ text: String) -> UInt32? {
        if let number = number(text) { return number }
        guard isName(text) else { return nil }
        var entry = unsafe passwd()
        var scratch = [CChar](repeating: 0, count: scratchBytes)
        var found: UnsafeMutablePointer<passwd>?
        // SAFETY: `entry` points into `scratch`; only its number is read, while both live.
        let code = unsafe getpwnam_r(text, &entry, &scratch, scratch.count, &found)
        return unsafe code == 0 && found != nil ? entry.pw_uid : nil
    }

    /// Nil where there is no such group.
    static func group(_ text: String) -> UInt32? {
        if let number = number(text) { return number }
        return isName(text) ? Accounts.group(text) : nil
    }

    /// The highest number means "none" to chown(2).
    private static func number(_ text: String) -> UInt32? {
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt32(text), number < .max else {
            return nil
        }
        return number
    }

    private static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= limit && !text.utf8.contains(0)
    }
}
