// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct ClaimList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the claims, in the order in which they're looked at.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        try await common.run { client in
            let claims = try await client.claims()
            if common.json { try Output.json(claims) } else { try Output.print(Self.text(claims)) }
        }
    }

    private static func text(_ claims: [ClaimInfo]) -> String {
        var table = Table("CLAIM", "MATCH", "EXCEPT", "GUESTS", "FORCE", "FAIL-BACK", "DECLARED BY", "DEVICES")
        for claim in claims {
            table.add(
                claim.name, claim.match.joined(separator: " "), claim.except.joined(separator: " "),
                claim.guests.joined(separator: " "), claim.force ? "yes" : "no", claim.failBack.rawValue,
                claim.declaredBy, claim.devices.joined(separator: " "))
        }
        return table.text
    }
}
