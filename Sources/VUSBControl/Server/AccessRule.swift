// SPDX-License-Identifier: Apache-2.0

/// What somebody may do on the control socket.
package enum AccessRole: String, Sendable, CaseIterable {
    /// All.
    case `operator`
    /// Look at all, change nothing.
    case viewer
    /// As a viewer, and what is its guests' own: load and unload them, give them devices, and give those up.
    case guest
}

/// Says for users or groups of the host what they may do.
package struct AccessRule: Sendable, Equatable {
    /// As an audit event names it, such as `access[0]`.
    package var name: String
    package var users: Set<UInt32>
    package var groups: Set<UInt32>
    package var role: AccessRole
    /// Of the role `guest`: those that are its own.
    package var guests: Set<String>

    package init(
        name: String, users: Set<UInt32> = [], groups: Set<UInt32> = [], role: AccessRole, guests: Set<String> = []
    ) {
        self.name = name
        self.users = users
        self.groups = groups
        self.role = role
        self.guests = guests
    }

    func names(_ peer: PeerCredentials) -> Bool {
        users.contains(peer.user) || groups.contains(peer.group) || !groups.isDisjoint(with: peer.groups)
    }
}

/// Who has made the call that is being served.
package enum Caller {
    /// Of the role `guest`: its own. What is done in the end is held against it, in the same step; nil for those who may do
    /// all.
    @TaskLocal package static var guests: Set<String>?
}
