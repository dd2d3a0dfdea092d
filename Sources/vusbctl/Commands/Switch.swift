// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Switch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Gives a device that a guest has to another one, once the first doesn't use it.",
        discussion: """
            What it waits for is shown; ^C leaves all as it was. At the deadline it's refused, unless --on-deadline says \
            otherwise: cancel takes the device all the same, wait goes on waiting.
            """)

    @OptionGroup var common: CommonOptions
    @OptionGroup var release: ReleaseOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    @Argument(help: "The name of the guest that is to have it.")
    var guest: String

    func run() async throws {
        let how = release.request
        let request = SwitchRequest(guest: guest, deadlineSeconds: how.deadlineSeconds, onDeadline: how.onDeadline)
        try await common.run { client in
            let operation = try await client.switchDevice(device, request)
            try await Following(client: client, options: common).finish(operation)
        }
    }
}
