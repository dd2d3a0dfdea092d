// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore

/// Claims, and what follows from them. Arbiter.md has the rows.
extension ControlPlane {
    func claims() -> [ClaimInfo] { claimTable.claims.map(info) }

    func claim(_ name: String) throws(Problem) -> ClaimInfo { info(try claimTable.find(name)) }

    private func info(_ claim: Claim) -> ClaimInfo {
        let decided = deviceRegistry.visible.filter { claimTable.first(for: $0)?.name == claim.name }
        return claim.info(devices: decided.map(\.id.rawValue))
    }

    func addClaim(_ specification: ClaimSpec) async throws(Problem) -> ClaimInfo {
        try checkRunning()
        try claimTable.add(Claim(specification, declaredBy: .control))
        emit(.claimAdded, detail: specification.name)
        offerFree()
        await persist()
        return try claim(specification.name)
    }

    /// What its guests have they keep.
    func removeClaim(_ name: String) async throws(Problem) {
        try checkRunning()
        try claimTable.remove(name)
        emit(.claimRemoved, detail: name)
        offerFree()
        await persist()
    }

    /// Those of the configuration, then those that were saved. One that can't be any more must not keep the others away.
    func restoreClaims(_ configured: [ClaimSpec], _ saved: [ClaimSpec]) {
        let all = configured.map { ($0, GuestEntry.Declaration.configuration) } + saved.map { ($0, .control) }
        for (specification, declaration) in all {
            do {
                try claimTable.add(Claim(specification, declaredBy: declaration))
            } catch {
                logger.error(
                    "claim left out",
                    metadata: [
                        "claim": "\(specification.name)", "error": "\(error.detail)", "remedy": "\(error.remedy ?? "")",
                    ])
            }
        }
    }

    /// Who is to have the device now.
    func heir(of record: DeviceRecord) -> Succession.Heir { succession(of: record).heir }

    func succession(
        of record: DeviceRecord, loading: String? = nil, excluding excluded: String? = nil
    ) -> Succession {
        if let reason = deviceRegistry[record.id]?.quarantine {
            return Succession(reason: "it's quarantined: \(reason)")
        }
        return guestRegistry.succession(
            of: record, claimTable, releasedFrom: deviceRegistry[record.id]?.releasedFrom, loading: loading,
            excluding: excluded)
    }

    /// A guest is back: what a guest behind it in a claim has is rather its own.
    func failBack(to name: String) {
        for record in deviceRegistry.visible {
            guard let holder = deviceRegistry[record.id]?.guest, let claim = claimTable.first(for: record),
                let place = claim.guests.firstIndex(of: name), let its = claim.guests.firstIndex(of: holder),
                place < its,
                succession(of: record).heir == .loaded(name)
            else { continue }
            switch claim.failBack {
            case .never: continue
            case .idle: beginMove(record.id, Move(guest: name, release: .patient, byHand: false))
            case .now: beginMove(record.id, Move(guest: name, release: .insistent, byHand: false))
            }
        }
    }

    /// Whether the guest may be given what the host itself uses.
    func isForced(_ record: DeviceRecord, for guest: String) -> Bool {
        guard let claim = claimTable.first(for: record) else { return false }
        return claim.isForced && claim.guests.contains(guest)
    }

    func explainClaims(on device: String) throws(Problem) -> ClaimExplanation {
        let id = try resolve(device)
        guard let entry = deviceRegistry[id], let record = entry.visibleRecord else {
            throw Problem(.conflict, "device \(id) was refused, and isn't lent", remedy: "see `vusbctl devices`")
        }
        var succession = succession(of: record)
        if case .loaded(let name) = succession.heir, entry.guest == nil, let limit = fullLimit(of: name) {
            succession.reason += "; it waits until guest \(name) has less than \(limit), as many as it may have"
        }
        return ClaimExplanation(
            device: id.rawValue, holder: entry.guest, heir: succession.heir.name, row: succession.row.rawValue,
            reason: succession.reason, claims: claimTable.verdicts(on: record))
    }
}
