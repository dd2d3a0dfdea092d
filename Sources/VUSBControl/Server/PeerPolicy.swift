// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Who may do what: root and the daemon's own user all; others what the first rule says that names them; whom none names,
/// all where they are members of the socket's group, and else nothing.
package struct PeerPolicy: Sendable, Equatable {
    package var users: Set<UInt32>
    /// Nil when there's no such group on this host.
    package var group: UInt32?
    package var rules: [AccessRule]

    package init(users: Set<UInt32> = [0, geteuid()], group: UInt32?, rules: [AccessRule] = []) {
        self.users = users
        self.group = group
        self.rules = rules
    }

    /// The rule that holds for somebody; nil for whom there is none.
    package func rule(for peer: PeerCredentials) -> AccessRule? {
        if users.contains(peer.user) { return AccessRule(name: "root and vusbd's user", role: .operator) }
        if let rule = rules.first(where: { $0.names(peer) }) { return rule }
        guard let group, peer.group == group || peer.groups.contains(group) else { return nil }
        return AccessRule(name: "the socket's group", role: .operator)
    }
}
