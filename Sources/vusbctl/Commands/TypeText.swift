// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct TypeText: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "type", abstract: "Types text on an emulated keyboard.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    @Argument(help: "Printable ASCII, tab and newline.")
    var text: String

    func run() async throws {
        try await common.run { client in
            try await client.type(TypeRequest(text: text), on: device)
            if common.json { try Output.json(Nothing()) }
        }
    }
}
