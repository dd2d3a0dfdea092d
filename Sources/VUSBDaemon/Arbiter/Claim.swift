// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// A lasting rule that devices belong to guests: a `ClaimSpec`, checked.
struct Claim: Sendable {
    let specification: ClaimSpec
    let declaredBy: GuestEntry.Declaration
    let match: [DeviceTerm]
    let except: [DeviceTerm]
    /// In the order of succession, each once.
    let guests: [String]

    var name: String { specification.name }
    var isForced: Bool { specification.force ?? false }
    var failBack: ClaimSpec.FailBack { specification.failBack ?? .never }

    /// - Throws: `malformed`, naming the claim and the term.
    init(_ specification: ClaimSpec, declaredBy: GuestEntry.Declaration) throws(Problem) {
        self.specification = specification
        self.declaredBy = declaredBy
        match = try Self.terms(specification.match, of: specification.name)
        except = try Self.terms(specification.except ?? [], of: specification.name)
        var guests: [String] = []
        for guest in specification.guests where !guests.contains(guest) { guests.append(guest) }
        self.guests = guests
    }

    private static func terms(_ texts: [String], of name: String) throws(Problem) -> [DeviceTerm] {
        var terms: [DeviceTerm] = []
        for text in texts {
            do {
                let term = try DeviceTerm(text)
                if !terms.contains(term) { terms.append(term) }
            } catch {
                throw Problem(.malformed, "claim \(name): \(error.detail)", remedy: error.remedy)
            }
        }
        return terms
    }

    /// Why it doesn't fit; nil where it does.
    func misfit(_ record: DeviceRecord) -> String? {
        if let term = match.first(where: { !$0.fits(record) }) { return "\(term) doesn't fit" }
        return except.first { $0.fits(record) }.map { "excepted by \($0)" }
    }

    func fits(_ record: DeviceRecord) -> Bool { misfit(record) == nil }

    /// Whether it fits whatever the other one fits, so that behind it the other can never decide.
    func covers(_ other: Claim) -> Bool {
        match.allSatisfy { mine in other.match.contains(where: mine.covers) }
            && except.allSatisfy { mine in other.except.contains { $0.covers(mine) } }
    }

    func info(devices: [String]) -> ClaimInfo {
        ClaimInfo(
            name: name, match: match.map(\.description), except: except.map(\.description), guests: guests,
            force: isForced, failBack: failBack, declaredBy: declaredBy.rawValue, devices: devices)
    }
}
