// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Emulate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Plugs an emulated device in, and prints its id.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "As of 'vusbd --emulate': KIND[=ARGUMENT][,OPTION=VALUE...], such as zero or disk=/tmp/image.")
    var spec: String

    func run() async throws {
        try await common.run { client in
            let device = try await client.emulate(EmulateRequest(specification: spec))
            if common.json { try Output.json(device) } else { try Output.print(Output.harmless(device.id)) }
        }
    }
}
