// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// The openers of a guest's `clock` during one load of it.
///
/// Concurrency model: reader threads open and close, the control plane shuts; one `Mutex`, held across no call out.
final class ClockOpeners: Sendable {
    /// At once.
    static let limit = 1024

    private struct State {
        var files: [UInt64: ClockFile] = [:]
        var isShut = false
    }

    private let state = Mutex(State())

    var count: Int { state.withLock { $0.files.count } }

    /// Nil where there are too many. Where the guest was unloaded just now the timer is gone from the start.
    func open(_ id: FileHandleID, clock: any FileClock) -> ClockFile? {
        let file = ClockFile(id: id, openers: self, clock: clock)
        let (isTaken, isShut) = state.withLock { state in
            guard state.files.count < Self.limit else { return (false, state.isShut) }
            if !state.isShut { state.files[id.rawValue] = file }
            return (true, state.isShut)
        }
        guard isTaken else { return nil }
        if isShut { file.shut() }
        return file
    }

    func remove(_ id: FileHandleID) { state.withLock { $0.files[id.rawValue] = nil } }

    /// The guest is unloaded: all timers are gone.
    func shut() {
        let files = state.withLock { state in
            state.isShut = true
            defer { state.files = [:] }
            return Array(state.files.values)
        }
        for file in files { file.shut() }
    }
}
