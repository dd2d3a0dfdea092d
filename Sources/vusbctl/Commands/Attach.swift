// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Attach: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Gives a device to a guest.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    @Argument(help: "The guest's name.")
    var guest: String

    func run() async throws {
        try await common.run { client in
            let operation = try await client.attach(device, AttachRequest(guest: guest))
            try await Following(client: client, options: common).finish(operation)
        }
    }
}
