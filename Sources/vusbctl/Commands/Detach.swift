// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Detach: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Takes a device from its guest.")

    @OptionGroup var common: CommonOptions
    @OptionGroup var release: ReleaseOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    func run() async throws {
        try await common.run { client in
            let operation = try await client.detach(device, release.request)
            try await Following(client: client, options: common).finish(operation)
        }
    }
}
