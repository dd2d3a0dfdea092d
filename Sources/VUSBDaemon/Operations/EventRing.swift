// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// The last events, and who listens. A value without a lock of its own; `ControlPlane` guards it.
///
/// A listener that is slower than events come loses the oldest; the gap in the sequence numbers tells it.
struct EventRing: Sendable {
    static let limit = 1024

    private var events: [EventInfo] = []
    private var nextSequence: UInt64 = 1
    private var listeners: [Int: AsyncStream<EventInfo>.Continuation] = [:]
    private var nextListener = 1
    private var isFinished = false

    /// Sequence numbers begin at 1 and have no gaps here.
    mutating func append(_ make: (UInt64) -> EventInfo) -> EventInfo {
        let event = make(nextSequence)
        nextSequence += 1
        // Twice the limit before it's cut: one move of the array for many events.
        if events.count >= 2 * Self.limit { events.removeFirst(events.count - Self.limit + 1) }
        events.append(event)
        for listener in listeners.values { listener.yield(event) }
        return event
    }

    var known: ArraySlice<EventInfo> { events.suffix(Self.limit) }
    var listenerCount: Int { listeners.count }

    /// With `after`, what is still known beyond it comes first.
    mutating func listen(after: UInt64?) -> (id: Int, stream: AsyncStream<EventInfo>) {
        let (stream, continuation) = AsyncStream.makeStream(
            of: EventInfo.self,
            bufferingPolicy: .bufferingNewest(2 * Self.limit)
        )
        if let after { for event in known where event.sequence > after { continuation.yield(event) } }
        let id = nextListener
        nextListener += 1
        if isFinished { continuation.finish() } else { listeners[id] = continuation }
        return (id, stream)
    }

    mutating func setOnTermination(_ id: Int, _ handler: @escaping @Sendable () -> Void) {
        listeners[id]?.onTermination = { _ in handler() }
    }

    mutating func forget(_ id: Int) { listeners[id] = nil }

    mutating func finish() {
        isFinished = true
        for listener in listeners.values { listener.finish() }
        listeners.removeAll()
    }
}
