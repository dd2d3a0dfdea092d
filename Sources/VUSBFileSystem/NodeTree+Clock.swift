// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// `clock` and `heartbeat`: Clock.md. `setGuestPublished(_:_:heartbeat:)` makes and ends them.
extension NodeTree {
    /// When the guest last wrote to its `heartbeat`. Nil where it hasn't since it was loaded, was loaded without one,
    /// or isn't loaded.
    package func lastHeartbeat(of guest: String) -> ContinuousClock.Instant? {
        state.withLock { $0.guest(named: guest)?.heartbeat }?.lastBeat
    }

    /// Has the first beat from now on give one event in `heartbeatEvents`. Each call is for one beat; an unload ends
    /// it.
    /// - Returns: false where the guest has no heartbeat: none will be told.
    @discardableResult
    package func tellNextBeat(of guest: String) -> Bool {
        guard let heartbeat = state.withLock({ $0.guest(named: guest)?.heartbeat }) else { return false }
        heartbeat.tellNext()
        return true
    }

    /// The beats that were asked for, of all guests, each as it comes. Called once.
    package func heartbeatEvents() -> AsyncStream<HeartbeatEvent> { heartbeats.stream }

    /// Nil where it isn't there (any more).
    func clockOpeners(of node: NodeID) -> ClockOpeners? { state.withLock { $0.guests[node.owner]?.clock } }

    /// Nil where it isn't there (any more).
    func heartbeat(of node: NodeID) -> Heartbeat? { state.withLock { $0.guests[node.owner]?.heartbeat } }
}

extension NodeTree.Guest {
    /// Makes what a load begins with; what is there stays.
    /// - Returns: what has ended, for the caller to shut once it has let go of the tree.
    mutating func setPublished(
        _ isPublished: Bool, heartbeat isWanted: Bool, _ heartbeats: Heartbeats
    ) -> (ClockOpeners?, Heartbeat?) {
        self.isPublished = isPublished
        var ended: (clock: ClockOpeners?, heartbeat: Heartbeat?) = (nil, nil)
        if !isPublished { ended.clock = clock.take() } else if clock == nil { clock = ClockOpeners() }
        if !isPublished || !isWanted {
            ended.heartbeat = heartbeat.take()
        } else if heartbeat == nil {
            heartbeat = Heartbeat(guest: name, events: heartbeats.events)
        }
        return ended
    }
}
