// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// The claims, in the order in which they're looked at. A value without a lock of its own; `ControlPlane` guards it.
struct ClaimTable: Sendable {
    private(set) var claims: [Claim] = []

    /// The one that decides on a device.
    func first(for record: DeviceRecord) -> Claim? { claims.first { $0.fits(record) } }

    func find(_ name: String) throws(Problem) -> Claim {
        guard let claim = claims.first(where: { $0.name == name }) else {
            throw Problem(.notFound, "no claim \(quoted(name))", remedy: "`vusbctl claim list` shows what there is")
        }
        return claim
    }

    /// Behind all others.
    /// - Throws: `conflict`, where there is one of that name, or the claim could never decide.
    mutating func add(_ claim: Claim) throws(Problem) {
        guard !claims.contains(where: { $0.name == claim.name }) else {
            throw Problem(
                .conflict, "there is a claim \(claim.name) already", remedy: "choose another name, or remove it first")
        }
        if let earlier = claims.first(where: { $0.covers(claim) }) {
            throw Problem(
                .conflict,
                "claim \(claim.name) would never decide: claim \(earlier.name), before it, fits all that it fits",
                remedy: "make \(earlier.name) narrower (except), or remove it and add it again behind this one")
        }
        guard claims.count < Rules.mostClaims else {
            throw Problem(
                .unavailable, "there are \(Rules.mostClaims) claims, as many as can be", remedy: "remove one first")
        }
        claims.append(claim)
    }

    mutating func remove(_ name: String) throws(Problem) {
        guard try find(name).declaredBy == .control else {
            throw Problem(
                .conflict, "claim \(name) is declared in the configuration",
                remedy: "remove it from vusb.yaml and restart vusbd")
        }
        claims.removeAll { $0.name == name }
    }

    /// What each makes of a device.
    func verdicts(on record: DeviceRecord) -> [ClaimExplanation.Verdict] {
        let deciding = first(for: record)?.name
        return claims.map { claim in
            let misfit = claim.misfit(record)
            let decides = claim.name == deciding
            let isLate = misfit == nil && !decides
            return ClaimExplanation.Verdict(
                claim: claim.name, fits: misfit == nil, decides: decides,
                reason: isLate ? deciding.map { "claim \($0) comes first" } : misfit)
        }
    }
}
