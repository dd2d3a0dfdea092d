// SPDX-License-Identifier: Apache-2.0

/// Whether the kernel is to follow the tree's character nodes. It's settled once, for the tree and its mount alike:
/// SysfsView.md has the cases.
package enum CharacterNodes: Sendable, CaseIterable {
    /// The mount is `nodev`: nodes are pointers that nobody can follow, and without other numbers have usbfs's.
    case pointers
    /// The mount is `dev`: a node carries the numbers of one that a front of ours serves, or isn't there.
    case served

    /// usbfs's (Documentation/admin-guide/devices.txt): the numbers of the host's own USB devices.
    static let usbfsMajor = 189

    var mountOption: String {
        switch self {
        case .pointers: "nodev"
        case .served: "dev"
        }
    }
}
