// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// What may be imported, by whom, and where.
///
/// Concurrency model: any thread; all state is in one `Mutex`, a leaf.
final class USBIPCatalogue: Sendable {
    private struct State {
        /// By guest, then path.
        var exports: [String: [String: USBIPExport]] = [:]
        var listeners: [USBIPListener] = []
    }

    private let state = Mutex(State())

    var all: [USBIPExport] { state.withLock { $0.exports.values.flatMap(\.values) } }

    /// What a guest holds, in the order of the numbers.
    func exports(of guest: String) -> [USBIPExport] {
        state.withLock { Array(($0.exports[guest] ?? [:]).values) }.sorted { $0.place.deviceID < $1.place.deviceID }
    }

    func export(of guest: String, busID: [UInt8]) -> USBIPExport? {
        guard let path = String(validating: busID, as: UTF8.self) else { return nil }
        return state.withLock { $0.exports[guest]?[path] }
    }

    /// False where the place is taken.
    func add(_ export: USBIPExport) -> Bool {
        let place = export.place
        return state.withLock { state in
            guard state.exports[place.guest]?[place.path] == nil else { return false }
            state.exports[place.guest, default: [:]][place.path] = export
            return true
        }
    }

    func remove(_ export: USBIPExport) {
        let place = export.place
        state.withLock { state in
            guard state.exports[place.guest]?[place.path] === export else { return }
            state.exports[place.guest]?[place.path] = nil
            if state.exports[place.guest]?.isEmpty == true { state.exports[place.guest] = nil }
        }
    }

    func add(_ listener: USBIPListener) { state.withLock { $0.listeners.append(listener) } }

    func remove(_ listener: USBIPListener) { state.withLock { $0.listeners.removeAll { $0 === listener } } }
    var listeners: [USBIPListener] { state.withLock { $0.listeners } }
}
