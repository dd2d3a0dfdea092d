// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Unplug: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Unplugs an emulated device, as abruptly as a hand does.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    func run() async throws {
        try await common.run { client in
            try await client.unplug(device)
            if common.json { try Output.json(Nothing()) }
        }
    }
}
