// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Forget: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ends the import of a device.",
        discussion:
            "A guest that has the device loses it as by 'vusbctl detach': what it works with isn't taken unasked.")

    @OptionGroup var common: CommonOptions
    @OptionGroup var release: ReleaseOptions

    @Argument(help: "The device's id, as 'vusbctl imports' shows it.")
    var id: String

    func run() async throws {
        try await common.run { client in
            let operation = try await client.forgetImport(id, release.request)
            try await Following(client: client, options: common).finish(operation)
        }
    }
}
