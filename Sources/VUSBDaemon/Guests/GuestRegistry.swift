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

    func checkNew(_ name: String) throws(Problem) {
        guard entries[name] != nil else { return }
        throw Problem(.conflict, "there is a guest \(name) already", remedy: "choose another name, or remove it first")
    }

    mutating func add(_ entry: GuestEntry) throws(Problem) {
        try checkNew(entry.definition.name)
        entries[entry.definition.name] = entry
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

    /// A device is another guest's now: what it was to these is over. Given by hand, it's nobody's to be kept away from.
    mutating func forgetOthers(of record: DeviceRecord, besides guest: String, byHand: Bool) {
        for name in entries.keys where name != guest {
            entries[name]?.noteSwitched(record)
            if byHand { entries[name]?.released.removeAll { $0.matches(record) } }
        }
    }

    /// A device that was released by hand may come back once it's plugged in anew.
    mutating func forgetReleases(of record: DeviceRecord) {
        for name in entries.keys { entries[name]?.released.removeAll { $0.matches(record) } }
    }
}
