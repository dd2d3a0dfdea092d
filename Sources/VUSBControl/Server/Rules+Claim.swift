// SPDX-License-Identifier: Apache-2.0

/// Values of a claim. vusb.yaml is checked by them as well.
extension Rules {
    /// What a claim can ask of a device.
    package static let claimTerms = ["serial", "product", "port", "class", "interface", "source"]
    /// Of `match`, and of `except`.
    package static let mostTerms = 16
    /// That a claim may name.
    package static let mostHeirs = 16
    package static let mostClaims = 256
    static let longestTerm = 160

    /// `TERM=VALUE` taken apart; nil if it isn't one. What a value may be, the daemon knows.
    package static func claimTerm(_ text: String) -> (term: String, value: String)? {
        guard let equals = text.firstIndex(of: "="), text.unicodeScalars.count <= longestTerm,
            !text.unicodeScalars.contains(where: isControl)
        else { return nil }
        let term = String(text[..<equals])
        let value = String(text[text.index(after: equals)...])
        return claimTerms.contains(term) && !value.isEmpty ? (term, value) : nil
    }

    static func claimTerms(_ texts: [String], _ range: ClosedRange<Int>, _ field: String) throws(Problem) {
        try within(range, texts.count, "the number of entries of field '\(field)'")
        for text in texts where claimTerm(text) == nil {
            throw Problem(
                .malformed, "field '\(field)' has '\(shortened(text))', which isn't a term", remedy: claimTermRemedy)
        }
    }

    package static let claimTermRemedy =
        "write TERM=VALUE, where TERM is one of \(claimTerms.joined(separator: ", "))"
}

extension ClaimSpec: RequestMessage {
    static let fields = ["name", "match", "except", "guests", "force", "failBack"]

    package func check() throws(Problem) {
        _ = try Rules.guestName(name, "field 'name'")
        try Rules.claimTerms(match, 1...Rules.mostTerms, "match")
        try Rules.claimTerms(except ?? [], 0...Rules.mostTerms, "except")
        try Rules.within(1...Rules.mostHeirs, guests.count, "the number of entries of field 'guests'")
        for guest in guests { _ = try Rules.guestName(guest, "field 'guests':") }
    }
}
