// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct ClaimExplain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Says who is to have a device, and what each claim makes of it.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    func run() async throws {
        try await common.run { client in
            let explanation = try await client.explainClaims(on: device)
            if common.json { try Output.json(explanation) } else { try Output.print(Self.text(explanation)) }
        }
    }

    private static func text(_ explanation: ClaimExplanation) -> String {
        let holder = explanation.holder.map { "guest \($0) has it" } ?? "nobody has it"
        let heir = explanation.heir.map { "guest \($0) is to have it" } ?? "nobody is to have it"
        let summary = Output.harmless(
            "\(explanation.device): \(holder); \(heir): \(explanation.reason) (\(explanation.row))")
        guard !explanation.claims.isEmpty else { return summary }
        var table = Table("CLAIM", "FITS", "DECIDES", "WHY NOT")
        for verdict in explanation.claims {
            table.add(verdict.claim, verdict.fits ? "yes" : "no", verdict.decides ? "yes" : "no", verdict.reason)
        }
        return summary + "\n\n" + table.text
    }
}
