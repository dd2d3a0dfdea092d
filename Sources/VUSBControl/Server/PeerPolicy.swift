// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Who may speak with the daemon: root, the daemon's own user, and the members of the socket's group.
package struct PeerPolicy: Sendable, Equatable {
    package var users: Set<UInt32>
    /// Nil when there's no such group on this host.
    package var group: UInt32?

    package init(users: Set<UInt32> = [0, geteuid()], group: UInt32?) {
        self.users = users
        self.group = group
    }

    package func admits(_ peer: PeerCredentials) -> Bool {
        if users.contains(peer.user) { return true }
        guard let group else { return false }
        return peer.group == group || peer.groups.contains(group)
    }
}
