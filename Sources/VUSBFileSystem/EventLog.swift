// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// The lines of one guest's `events` file: a ring, which each opener reads from where it opened.
///
/// Concurrency model: the control plane appends, reader threads wait and read; all state is in one `Mutex`, held
/// across no call out. Lock order: this one, then none.
final class EventLog: Sendable {
    /// Lines kept for slow readers.
    static let capacity = 1024

    private struct State {
        var lines: [[UInt8]] = []
        /// The position of `lines[0]`.
        var first: UInt64 = 0
        var hasEnded = false
        var observers: [UInt64: @Sendable () -> Void] = [:]
        var nextObserver: UInt64 = 0
    }

    private let state = Mutex(State())

    /// Where the next line will be.
    var endPosition: UInt64 { state.withLock { $0.first + UInt64($0.lines.count) } }

    func append(_ line: String) {
        let observers = state.withLock { state in
            state.lines.append(Array((line + "\n").utf8))
            if state.lines.count > Self.capacity {
                state.lines.removeFirst()
                state.first += 1
            }
            return Array(state.observers.values)
        }
        for observer in observers { observer() }
    }

    /// The guest is gone: readers get end of file once they have read all.
    func finish() {
        let observers = state.withLock { state in
            state.hasEnded = true
            return Array(state.observers.values)
        }
        for observer in observers { observer() }
    }

    enum Next {
        case line([UInt8], at: UInt64)
        case none
        case ended
    }

    /// The line at `position`, or the oldest still kept if that is later.
    func line(at position: UInt64) -> Next {
        state.withLock { state in
            let index = max(position, state.first) - state.first
            if index < state.lines.count { return .line(state.lines[Int(index)], at: state.first + index) }
            return state.hasEnded ? .ended : .none
        }
    }

    /// Calls `observer` after each change, on the thread that made it, until `removeObserver`.
    func addObserver(_ observer: @escaping @Sendable () -> Void) -> UInt64 {
        state.withLock { state in
            state.nextObserver += 1
            state.observers[state.nextObserver] = observer
            return state.nextObserver
        }
    }

    func removeObserver(_ id: UInt64) {
        state.withLock { $0.observers[id] = nil }
    }
}
