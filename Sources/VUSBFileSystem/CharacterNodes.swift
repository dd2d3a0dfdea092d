// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VUSBCore

/// Whether the kernel is to follow the tree's character nodes. It's settled once, for the tree and its mount alike:
/// SysfsView.md has the cases.
package enum CharacterNodes: Sendable, CaseIterable {
    /// The mount is `nodev`: nodes are pointers that nobody can follow, and without other numbers have some that no device
    /// has.
    case pointers
    /// The mount is `dev`: a node carries the numbers of one that a front of ours serves, or isn't there.
    case served

    var mountOption: String {
        switch self {
        case .pointers: "nodev"
        case .served: "dev"
        }
    }

    /// Whether the kernel has the number for a device of CUSE's, and so for none of the host's own. To be asked outside of
    /// all mounts of ours.
    package static let isServedByCUSE: @Sendable (CharacterDeviceNumber) -> Bool = { number in
        var target = [CChar](repeating: 0, count: 4096)
        // SAFETY: readlink writes at most as many bytes as the array has.
        let count = unsafe readlink("/sys/dev/char/\(number)", &target, target.count)
        guard count > 0 else { return false }
        let path = String(decoding: target.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.contains("/devices/virtual/cuse/")
    }
}
