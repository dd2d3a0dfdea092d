// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Unload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Takes USB down in a guest and gives its devices back.",
        discussion: """
            In mode module the guest's own users of its devices, such as mounted file systems, are looked for first; \
            while there are any, nothing is taken and they are named.
            """)

    @OptionGroup var common: CommonOptions
    @OptionGroup var release: ReleaseOptions

    @Argument(help: "The guest's name.")
    var guest: String

    func run() async throws {
        try await common.run { client in
            let operation = try await client.unload(guest, release.request)
            try await Following(client: client, options: common).finish(operation)
        }
    }
}
