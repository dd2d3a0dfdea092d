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
    var text: String?

    @Option(help: "Keys by their names, such as scrolllock,scrolllock,2; pressed behind the text.")
    var keys: String?

    func validate() throws {
        if text == nil, keys == nil { throw ValidationError("there is nothing to type: give TEXT or --keys") }
    }

    func run() async throws {
        let keys = keys?.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        try await common.run { client in
            try await client.type(TypeRequest(text: text, keys: keys), on: device)
            if common.json { try Output.json(Nothing()) }
        }
    }
}
