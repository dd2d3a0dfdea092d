// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// Who is to have a device now. Arbiter.md has the rows.
struct Succession: Sendable {
    enum Heir: Sendable, Equatable {
        case nobody
        /// It is loaded, and gets the device where that is free.
        case loaded(String)
        /// It's loaded with the device, which is free.
        case onDemand(String)
        /// It is being loaded, or to be loaded again: nobody else gets the device.
        case awaited(String)

        var name: String? {
            switch self {
            case .nobody: nil
            case .loaded(let name), .onDemand(let name), .awaited(let name): name
            }
        }
    }

    enum Row: String, Sendable { case byHand = "C1", claim = "C2", takenByHand = "C3", listed = "C4", none = "C5" }

    var heir = Heir.nobody
    var row = Row.none
    /// The one that fits, in the rows C2 and C3.
    var claim: Claim?
    var reason = "no claim fits, and no guest lists it"
}

extension GuestRegistry {
    /// - Parameters:
    ///   - releasedFrom: whom it was taken from by hand.
    ///   - loading: a guest to be taken for loaded: its load asks.
    ///   - excluded: one that has just failed to load or was unloaded, and isn't loaded for the device again.
    func succession(
        of record: DeviceRecord, _ claims: ClaimTable, releasedFrom: String? = nil, loading: String? = nil,
        excluding excluded: String? = nil
    ) -> Succession {
        let guests = entries.values.map { Candidate($0, isLoading: $0.definition.name == loading) }
        let byHand = Self.byHand(record, guests)
        if let byHand, let name = byHand.heir.name, byHand.heir == .loaded(name) || self[name]?.isBeingLoaded == true {
            return byHand
        }
        if let claim = claims.first(for: record) {
            return byClaim(claim, record, releasedFrom, loading, excluded)
        }
        return byHand ?? listed(record, guests, excluded)
    }

    /// C1
    private static func byHand(_ record: DeviceRecord, _ guests: [Candidate]) -> Succession? {
        let holders = guests.filter { $0.isKept && $0.guest.hasByHand(record) }
        let loaded = holders.filter { $0.heir == .loaded($0.name) }
        let candidates = loaded.isEmpty ? holders : loaded
        guard let first = candidates.min(by: { $0.guest.loadOrder < $1.guest.loadOrder }) else { return nil }
        let silent = first.guest.isSilent ? ", which is silent: it has it again when it's heard" : ""
        return Succession(
            heir: first.heir, row: .byHand, reason: "it was given by hand to guest \(first.name)\(silent)")
    }

    /// C2, C3
    private func byClaim(
        _ claim: Claim, _ record: DeviceRecord, _ releasedFrom: String?, _ loading: String?, _ excluded: String?
    ) -> Succession {
        let declared = claim.guests.compactMap { self[$0] }
        if releasedFrom.map(claim.guests.contains) == true || declared.contains(where: { $0.hasReleased(record) }) {
            return Succession(
                row: .takenByHand, claim: claim,
                reason: "it was taken by hand, and is free until it's plugged in anew or given by hand")
        }
        if claim.failBack == .never, let keeper = declared.first(where: { $0.keeps(record) }) {
            let name = keeper.definition.name
            let isLoaded = name == loading || keeper.state == .loaded
            return Succession(
                heir: isLoaded ? .loaded(name) : .awaited(name), row: .claim, claim: claim,
                reason: "claim \(claim.name) is the first that fits, and guest \(name) had it last")
        }
        for guest in declared {
            let name = guest.definition.name
            let heir = name == loading ? .loaded(name) : guest.inheritance(after: excluded)
            guard let heir else { continue }
            return Succession(
                heir: heir, row: .claim, claim: claim, reason: "claim \(claim.name) is the first that fits")
        }
        let missing = claim.guests.filter { self[$0] == nil }
        let undeclared = missing.isEmpty ? "" : "; not declared: \(missing.joined(separator: ", "))"
        return Succession(
            row: .claim, claim: claim, reason: "claim \(claim.name) fits, and none of its guests is loaded\(undeclared)"
        )
    }

    /// C4, C5
    private func listed(_ record: DeviceRecord, _ guests: [Candidate], _ excluded: String?) -> Succession {
        let takers = guests.filter { $0.isKept && $0.guest.wantsByList(record) }
        let first = takers.min { left, right in
            let leftMisses = left.guest.misses(record)
            guard leftMisses == right.guest.misses(record) else { return leftMisses }
            return left.guest.loadOrder < right.guest.loadOrder
        }
        if let first {
            return Succession(heir: first.heir, row: .listed, reason: "guest \(first.name) lists it")
        }
        let demander = sorted.first { $0.lists(record) && $0.isDemanded(after: excluded) }
        guard let name = demander?.definition.name else { return Succession() }
        return Succession(
            heir: .onDemand(name), row: .listed, reason: "guest \(name) lists it, and is loaded on demand")
    }

    /// A guest as a succession sees it.
    private struct Candidate {
        let guest: GuestEntry
        let isLoading: Bool

        init(_ guest: GuestEntry, isLoading: Bool) {
            self.guest = guest
            self.isLoading = isLoading
        }

        var name: String { guest.definition.name }
        /// Loaded, or to be loaded again.
        var isKept: Bool { isLoading || guest.state == .loaded || guest.keepsLoaded }
        var heir: Succession.Heir {
            isLoading || (guest.state == .loaded && !guest.isSilent) ? .loaded(name) : .awaited(name)
        }
    }
}

extension GuestEntry {
    var isBeingLoaded: Bool { if case .loading = state { true } else { false } }

    /// Given by somebody's hand, and not taken since.
    func hasByHand(_ record: DeviceRecord) -> Bool { held.contains { $0.byHand && $0.device.matches(record) } }

    /// Taken by somebody's hand, and not plugged in anew since.
    func hasReleased(_ record: DeviceRecord) -> Bool { released.contains { $0.matches(record) } }

    /// It had it last, and has it yet or is just being loaded again.
    func keeps(_ record: DeviceRecord) -> Bool {
        guard misses(record) else { return false }
        switch state {
        case .loaded: return !isGone && !isSilent
        case .loading: return true
        case .unloaded, .draining, .failed, .waiting: return false
        }
    }

    func wantsByList(_ record: DeviceRecord) -> Bool { lists(record) && !hasReleased(record) }

    /// Whether a device is reason enough to load it. One that comes always is; one that another guest couldn't keep isn't
    /// for that guest itself, nor for one whose last load failed: they would hand it to each other for ever.
    func isDemanded(after excluded: String?) -> Bool {
        guard isLoadedOnDemand else { return false }
        return excluded == nil || (state == .unloaded && definition.name != excluded)
    }

    /// What it is in a claim's succession; nil where it's passed over.
    func inheritance(after excluded: String?) -> Succession.Heir? {
        let name = definition.name
        if isDemanded(after: excluded) { return .onDemand(name) }
        switch state {
        case .loaded where !isGone && !isSilent: return .loaded(name)
        case .loading: return .awaited(name)
        case .loaded, .unloaded, .draining, .failed, .waiting: return nil
        }
    }
}
