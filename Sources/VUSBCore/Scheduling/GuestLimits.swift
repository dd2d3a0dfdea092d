// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What all devices of one guest may use together. Over a limit a URB is held back, not refused.
///
/// Isochronous and interrupt URBs count against the rate only and are never held back. What waits for its device isn't
/// in flight here (see Scheduling.md). A URB that is larger than the limit of bytes in flight goes when nothing else of
/// the guest is in flight, and one URB always goes.
///
/// Concurrency model: any thread; all state is in one `Mutex`. Lock order: a scheduler's, then this.
package final class GuestLimits: Sendable {
    /// Nil is no limit.
    package struct Values: Sendable, Equatable {
        package var bytesPerSecond: Int?
        package var urbsInFlight: Int?
        package var bytesInFlight: Int?

        package init(bytesPerSecond: Int? = nil, urbsInFlight: Int? = nil, bytesInFlight: Int? = nil) {
            self.bytesPerSecond = bytesPerSecond
            self.urbsInFlight = urbsInFlight
            self.bytesInFlight = bytesInFlight
        }

        var isUnlimited: Bool { self == Values() }
    }

    enum Answer: Equatable {
        case taken
        /// Held back until something of the guest completes.
        case whenOneEnds
        /// Held back until that time.
        case at(UInt64)
    }

    fileprivate struct State {
        var values: Values
        var bucket: TokenBucket?
        var urbs = 0
        var bytes = 0
        /// Have lanes of this guest, once for each.
        var members: [BusScheduler] = []
        /// Hold URBs back until something of the guest ends.
        var waiting: [BusScheduler] = []
    }

    private let state: Mutex<State>

    package init(_ values: Values = Values()) { state = Mutex(State(values: values)) }

    package var values: Values { state.withLock { $0.values } }

    /// Holds for what is held back already, too.
    package func change(to values: Values) {
        let members = state.withLock { state in
            guard values != state.values else { return [BusScheduler]() }
            if values.bytesPerSecond != state.values.bytesPerSecond { state.bucket = nil }
            state.values = values
            state.waiting.removeAll(keepingCapacity: true)
            return state.members
        }
        for member in members { member.limitsChanged() }
    }

    func join(_ scheduler: BusScheduler) { state.withLock { $0.members.append(scheduler) } }

    func leave(_ scheduler: BusScheduler) {
        state.withLock { state in
            if let index = state.members.firstIndex(where: { $0 === scheduler }) { state.members.remove(at: index) }
        }
    }

    /// Counts a URB as in flight where the limits let it, else remembers `scheduler` for when they may.
    func take(_ length: Int, now: UInt64, for scheduler: BusScheduler) -> Answer {
        state.withLock { state in
            let isOverURBs = state.urbs >= state.values.urbsInFlight ?? .max
            let bytesLimit = state.values.bytesInFlight ?? .max
            if isOverURBs && state.urbs > 0 || state.bytes > 0 && state.bytes + length > bytesLimit {
                if !state.waiting.contains(where: { $0 === scheduler }) { state.waiting.append(scheduler) }
                return .whenOneEnds
            }
            if let time = state.readyTime(now) { return .at(time) }
            state.count(length)
            return .taken
        }
    }

    /// Counts a URB of a periodic endpoint, which is never held back, against the rate.
    func takeAnyway(_ length: Int, now: UInt64) {
        state.withLock { state in
            // Makes the bucket where there is none yet; what it says doesn't matter here.
            _ = state.readyTime(now)
            state.bucket?.take(length)
        }
    }

    /// A URB has ended, or waits for its device: it isn't in flight here any more.
    /// - Returns: schedulers other than `scheduler`, which looks for itself, that may have something for the limits now.
    func giveBack(_ length: Int, for scheduler: BusScheduler) -> [BusScheduler] {
        state.withLock { state in
            state.urbs -= 1
            state.bytes -= length
            defer { state.waiting.removeAll(keepingCapacity: true) }
            return state.waiting.contains { $0 !== scheduler } ? state.waiting.filter { $0 !== scheduler } : []
        }
    }

    /// What a URB asked for and didn't move isn't counted against the rate.
    func refund(_ count: Int) {
        guard count > 0 else { return }
        state.withLock { $0.bucket?.putBack(count) }
    }

    /// Those that have lanes of this guest.
    var members: [BusScheduler] { state.withLock { $0.members } }
}

extension GuestLimits.State {
    fileprivate mutating func readyTime(_ now: UInt64) -> UInt64? {
        guard let rate = values.bytesPerSecond else { return nil }
        if bucket == nil { bucket = TokenBucket(bytesPerSecond: rate, now: now) }
        return bucket?.readyTime(now)
    }

    fileprivate mutating func count(_ length: Int) {
        urbs += 1
        bytes += length
        bucket?.take(length)
    }
}
