// SPDX-License-Identifier: Apache-2.0

/// What happens to a redirected device, for the control plane. Nothing follows `rejected` or `closed`.
package struct RedirEvent: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        /// The guest's side has said hello: its name and version, as it gave them (not to be believed, only shown).
        case connected(peer: String)
        /// The guest's side won't have the device.
        case rejected(reason: String)
        /// The guest's side has closed the connection, or broke a rule of the protocol, which is the reason then.
        case closed(violation: String?)
    }

    package var guest: String
    /// The device's path in the guest's directory.
    package var path: String
    package var kind: Kind

    package init(guest: String, path: String, kind: Kind) {
        self.guest = guest
        self.path = path
        self.kind = kind
    }
}

/// How a redirected device is now.
package struct RedirStatus: Sendable, Equatable {
    package enum State: String, Sendable {
        /// Nobody has connected.
        case waiting
        /// Somebody has, and hasn't said hello: a machine that is paused says it when it runs.
        case greeting
        case connected
        case closed
    }

    package var state: State
    package var peer: String?
    /// Bytes that wait for the peer to read.
    package var bytesWaiting: Int
    /// Isochronous streams, and bulk endpoints that are received ahead: somebody uses the device.
    package var streams: Int
    /// Since the last transfer that the guest asked for; nil before the first.
    package var idle: Duration?
    /// Why it's closed, where the guest's side was the reason and more is known than that.
    package var reason: String?

    package init(
        state: State, peer: String? = nil, bytesWaiting: Int = 0, streams: Int = 0, idle: Duration? = nil,
        reason: String? = nil
    ) {
        self.state = state
        self.peer = peer
        self.bytesWaiting = bytesWaiting
        self.streams = streams
        self.idle = idle
        self.reason = reason
    }
}
