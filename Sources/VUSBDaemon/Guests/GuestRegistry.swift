// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// The guests that were declared. A value without a lock of its own; `ControlPlane` guards it.
struct GuestRegistry: Sendable {
    private(set) var entries: [String: GuestEntry] = [:]
    private var loads = 0

    subscript(_ name: String) -> GuestEntry? {
        get { entries[name] }
        set { entries[name] = newValue }
    }

    /// In the order of their names.
    var sorted: [GuestEntry] { entries.values.sorted { $0.definition.name < $1.definition.name } }

    func find(_ name: String) throws(Problem) -> GuestEntry {
        guard let entry = entries[name] else {
            throw Problem(
                .notFound,
                "no guest \(quoted(name))",
                remedy: "`vusbctl guests` lists them, `vusbctl guest add` declares one"
            )
        }
        return entry
    }

    mutating func add(_ entry: GuestEntry) throws(Problem) {
        let name = entry.definition.name
        guard entries[name] == nil else {
            throw Problem(
                .conflict, "there is a guest \(name) already", remedy: "choose another name, or remove it first")
        }
        entries[name] = entry
    }

    mutating func remove(_ name: String) throws(Problem) {
        let entry = try find(name)
        guard entry.declaredBy == .control else {
            throw Problem(
                .conflict,
                "guest \(name) is declared in the configuration",
                remedy: "remove it from vusb.yaml and restart vusbd"
            )
        }
        switch entry.state {
        case .unloaded: entries[name] = nil
        case .failed where !entry.isUnloadable: entries[name] = nil
        case .loading, .loaded, .draining, .failed, .waiting:
            throw Problem(
                .conflict, "guest \(name) is \(entry.state.text)", remedy: "unload it first: vusbctl unload \(name)")
        }
    }

    /// The next place in the order of loads.
    mutating func nextLoad() -> Int {
        loads += 1
        return loads
    }

    /// The loaded guest that is to have the device: one that had it before comes before one whose declaration only
    /// lists it, and of those the one loaded first. Nil as well where a guest that had it is yet to be loaded again.
    func taker(of record: DeviceRecord) -> String? {
        let takers = entries.values.filter { ($0.state == .loaded || $0.keepsLoaded) && $0.wants(record) }
        let first = takers.min { left, right in
            let leftMisses = left.misses(record)
            return leftMisses == right.misses(record) ? left.loadOrder < right.loadOrder : leftMisses
        }
        return first?.state == .loaded ? first?.definition.name : nil
    }

    /// The guest that is loaded by being given the device: of those with the policy `on-demand` that list it the first
    /// by name. Nil where another guest has, or is to have, the better claim.
    func demander(of record: DeviceRecord) -> String? {
        guard !entries.values.contains(where: { ($0.state == .loaded || $0.keepsLoaded) && $0.wants(record) }) else {
            return nil
        }
        return sorted.first { $0.isLoadedOnDemand && $0.lists(record) }?.definition.name
    }

    /// Whether a guest that is yet to be loaded again had the device.
    func isPromised(_ record: DeviceRecord, besides name: String) -> Bool {
        entries.values.contains { entry in
            entry.definition.name != name && entry.keepsLoaded && entry.state != .loaded && entry.misses(record)
        }
    }

    /// A device that was released by hand may come back once it's plugged in anew.
    mutating func forgetReleases(of record: DeviceRecord) {
        for name in entries.keys { entries[name]?.released.removeAll { $0.matches(record) } }
    }
}
