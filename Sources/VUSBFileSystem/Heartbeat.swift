// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// A guest has written to its `heartbeat`, the first time since `NodeTree.tellNextBeat`.
package struct HeartbeatEvent: Sendable, Equatable {
    package var guest: String
    /// When it did.
    package var instant: ContinuousClock.Instant

    package init(guest: String, instant: ContinuousClock.Instant) {
        self.guest = guest
        self.instant = instant
    }
}

/// When a guest last wrote to its `heartbeat`, during one load of it (Clock.md, H1 to H9).
///
/// Concurrency model: any thread; atomics, which nobody waits for.
final class Heartbeat: Sendable {
    private enum Waiting {
        static let nobody = 0
        static let nextBeat = 1
        /// The guest was unloaded.
        static let shut = 2
    }

    private let guest: String
    private let events: AsyncStream<HeartbeatEvent>.Continuation
    private let began = ContinuousClock.now
    /// Nanoseconds from `began` on; negative where there was no beat.
    private let last = Atomic<Int64>(-1)
    private let waiting = Atomic(Waiting.nobody)

    init(guest: String, events: AsyncStream<HeartbeatEvent>.Continuation) {
        self.guest = guest
        self.events = events
    }

    var lastBeat: ContinuousClock.Instant? {
        let nanoseconds = last.load(ordering: .acquiring)
        return nanoseconds < 0 ? nil : began.advanced(by: .nanoseconds(nanoseconds))
    }

    /// - Returns: false where the guest was unloaded: it is no beat then.
    func beat(at instant: ContinuousClock.Instant = .now) -> Bool {
        guard waiting.load(ordering: .acquiring) != Waiting.shut else { return false }
        let (seconds, attoseconds) = began.duration(to: instant).components
        last.max(seconds * 1_000_000_000 + attoseconds / 1_000_000_000, ordering: .acquiringAndReleasing)
        let isAwaited = waiting.compareExchange(
            expected: Waiting.nextBeat, desired: Waiting.nobody, ordering: .acquiringAndReleasing
        ).exchanged
        if isAwaited { events.yield(HeartbeatEvent(guest: guest, instant: instant)) }
        return true
    }

    /// The next beat gives an event.
    func tellNext() {
        _ = waiting.compareExchange(
            expected: Waiting.nobody, desired: Waiting.nextBeat, ordering: .acquiringAndReleasing)
    }

    func shut() { waiting.store(Waiting.shut, ordering: .releasing) }
}

/// What all heartbeats of a tree share: where their events go.
final class Heartbeats: Sendable {
    let stream: AsyncStream<HeartbeatEvent>
    let events: AsyncStream<HeartbeatEvent>.Continuation

    init() {
        // One for each call of `tellNextBeat` at most: nobody but the control plane can make it long.
        (stream, events) = AsyncStream.makeStream()
    }
}
