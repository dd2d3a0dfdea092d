// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct GuestRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Forgets a guest that isn't loaded.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "The guest's name.")
    var name: String

    func run() async throws {
        try await common.run { client in
            try await client.removeGuest(name)
            if common.json { try Output.json(Nothing()) }
        }
    }
}
