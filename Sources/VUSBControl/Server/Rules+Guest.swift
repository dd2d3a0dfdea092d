// SPDX-License-Identifier: Apache-2.0

/// Values of a guest's declaration that say how a virtual machine is reached. vusb.yaml is checked by them as well.
extension Rules {
    package static let connectors = ["local", "qemu"]
    package static let modes = ["files", "module", "redirect", "usbip", "auto"]
    package static let policies = ["manual", "on-demand"]

    /// The longest path that a socket's address holds (unix(7)), in bytes.
    static let longestSocketPath = 107
    /// Tags in bytes, by the kind of the share: what virtio-fs and QEMU's 9p hold.
    static let longestTags = ["virtiofs": 36, "9p": 31]

    /// The path of a Unix socket: absolute, without control characters, of at most `longestSocketPath` bytes.
    package static func isSocketPath(_ path: String) -> Bool {
        path.hasPrefix("/") && path.utf8.count > 1 && path.utf8.count <= longestSocketPath
            && !path.unicodeScalars.contains(where: isControl)
    }

    /// `KIND:TAG` taken apart, nil if it isn't one. A tag becomes an argument of mount(8) in the guest: letters, digits
    /// and `_.-`, neither `.` nor `-` first.
    package static func share(_ text: String) -> (kind: String, tag: String)? {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let kind = String(text[..<colon])
        let tag = Array(text[text.index(after: colon)...].utf8)
        guard let longest = longestTags[kind], (1...longest).contains(tag.count) else { return nil }
        guard isAlphanumericOr(tag[0], "_"), tag.allSatisfy({ isAlphanumericOr($0, "_.-") }) else { return nil }
        return (kind, String(decoding: tag, as: UTF8.self))
    }

    static func socketPath(_ path: String?, _ field: String) throws(Problem) {
        guard let path, !isSocketPath(path) else { return }
        throw Problem(
            .malformed, "field '\(field)' is '\(shortened(path))', which isn't the path of a socket",
            remedy: "give an absolute path of at most \(longestSocketPath) bytes")
    }

    static func share(_ text: String?, _ field: String) throws(Problem) {
        guard let text, share(text) == nil else { return }
        throw Problem(.malformed, "field '\(field)' is '\(shortened(text))'", remedy: "write \(shareForm)")
    }

    /// For messages.
    package static let shareForm =
        "virtiofs:TAG or 9p:TAG, with the tag that QEMU was given: 1 to 36 (9p: 31) letters, digits and _.-"

    private static func isAlphanumericOr(_ byte: UInt8, _ others: StaticString) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: others.description.utf8.contains(byte)
        }
    }
}
