// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct ClaimRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Removes a claim. What its guests have they keep.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "The claim's name.")
    var name: String

    func run() async throws {
        try await common.run { client in
            try await client.removeClaim(name)
            if common.json { try Output.json(Nothing()) }
        }
    }
}
