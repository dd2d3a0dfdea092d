// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Trust: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ends the quarantine of a device that misbehaved: its guest gets it again.",
        discussion: "`vusbctl devices` shows which are quarantined, `vusbctl devices --json` why.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    func run() async throws {
        try await common.run { client in
            let info = try await client.trust(device)
            if common.json { try Output.json(info) }
        }
    }
}
