// SPDX-License-Identifier: Apache-2.0

/// What happens on the channel of a guest's module, for the control plane.
package struct HCDChannelEvent: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        /// The module has said hello: its name and version, as it gave them (not to be believed, only shown).
        case opened(peer: String)
        /// Its exporter serves one request at a time.
        case oneAtATime
        /// The guest has closed the file, or is gone.
        case closed
        /// The guest broke a rule; the channel stays broken until the file is closed.
        case broken(rule: String)
    }

    package var guest: String
    package var kind: Kind

    package init(guest: String, kind: Kind) {
        self.guest = guest
        self.kind = kind
    }
}

/// How a guest's channel is now.
package struct HCDChannelStatus: Sendable, Equatable {
    package enum State: String, Sendable {
        case closed, greeting, open, leaving, broken
    }

    package var state: State
    /// What the module said of itself in its hello.
    package var peer: String?
    /// Of each of the module's two root hubs; 0 before its hello.
    package var ports: Int
    package var isOneAtATime: Bool
    package var urbsInFlight: Int
    /// Since the channel was made.
    package var openCount: Int

    package init(
        state: State, peer: String? = nil, ports: Int = 0, isOneAtATime: Bool = false, urbsInFlight: Int = 0,
        openCount: Int = 0
    ) {
        self.state = state
        self.peer = peer
        self.ports = ports
        self.isOneAtATime = isOneAtATime
        self.urbsInFlight = urbsInFlight
        self.openCount = openCount
    }
}
