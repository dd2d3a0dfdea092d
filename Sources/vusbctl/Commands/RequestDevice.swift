// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct RequestDevice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "request",
        abstract: "Waits until a device is free and gives it to a guest; asks who has it.",
        discussion: """
            The guest that has it reads device-requested in its events. Of several that wait, the one whose guest has the \
            greater priority is first. ^C gives up.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    @Argument(help: "The name of the guest that is to have it.")
    var guest: String

    func run() async throws {
        try await common.run { client in
            let operation = try await client.requestDevice(device, AttachRequest(guest: guest))
            try await Following(client: client, options: common).finish(operation)
        }
    }
}
