// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// The devices that are imported from USB/IP servers. A value without a lock of its own; `ControlPlane` guards it.
struct ImportTable: Sendable {
    struct Entry: Sendable {
        /// Where it is between its beginning and its end.
        enum Phase: Sendable, Equatable {
            /// An operation waits for its first try. Unless it's kept in any case, it's taken back where that fails.
            case beginning(operation: Int, isKept: Bool)
            case kept
            /// An operation ends it.
            case ending(operation: Int)
        }

        let id: DeviceID
        let specification: ImportSpec
        let declaredBy: GuestEntry.Declaration
        var phase: Phase
        /// Seconds since 1970: since when the device is there, or isn't.
        var since: Double
        /// Whether the device was told of, if only to be refused.
        var hasCome = false
    }

    private var entries: [DeviceID: Entry] = [:]

    subscript(_ id: DeviceID) -> Entry? {
        get { entries[id] }
        set { entries[id] = newValue }
    }

    /// In the order of their ids.
    var sorted: [Entry] { entries.values.sorted { $0.id < $1.id } }

    /// What a vusbd that is started again imports, in the order of the ids.
    var saved: [ImportSpec] { sorted.filter(\.isSaved).map(\.specification) }

    func find(_ name: String) throws(Problem) -> Entry {
        guard let entry = entries[DeviceID(name)] else {
            throw Problem(.notFound, "no import \(quoted(name))", remedy: "`vusbctl imports` lists what there is")
        }
        return entry
    }

    func checkRoom() throws(Problem) {
        guard entries.count >= Rules.mostImports else { return }
        throw Problem(
            .unavailable, "\(Rules.mostImports) devices are imported, as many as can be", remedy: "forget one first")
    }

    /// One of control's that nobody is just beginning or ending.
    func checkForgettable(_ entry: Entry) throws(Problem) {
        guard entry.declaredBy == .control else {
            throw Problem(
                .conflict, "import \(entry.id) is declared in the configuration",
                remedy: "remove it from vusb.yaml and restart vusbd")
        }
        switch entry.phase {
        case .kept: return
        case .beginning(let operation, _):
            throw Problem(
                .conflict, "import \(entry.id) is being begun by operation \(operation)",
                remedy: "cancel that: vusbctl cancel \(operation)")
        case .ending(let operation):
            throw Problem(
                .conflict, "import \(entry.id) is being ended by operation \(operation)", remedy: "wait for its end")
        }
    }
}

extension ImportTable.Entry {
    /// Whether it's there after a restart of vusbd. One that is being ended is until it has.
    fileprivate var isSaved: Bool {
        guard declaredBy == .control else { return false }
        if case .beginning(_, let isKept) = phase { return isKept }
        return true
    }
}
