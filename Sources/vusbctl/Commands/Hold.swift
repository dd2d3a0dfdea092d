// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Hold: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says that a device isn't to be taken from its guest for a time.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "A device id, VID:PID or VID:PID:SERIAL.")
    var device: String

    @Option(
        name: .customLong("for"), parsing: .unconditional,
        help: ArgumentHelp("For how long, such as 30s or 1h; 1s to 24h. Default: 10m.", valueName: "time"),
        transform: Seconds.within(Rules.holds))
    var length: Seconds?

    @Option(help: "Why; shown to those who wait.")
    var reason: String?

    @Flag(help: "End the hold.")
    var end = false

    func validate() throws {
        if end, length != nil || reason != nil { throw ValidationError("--end goes with neither --for nor --reason") }
    }

    func run() async throws {
        try await common.run { client in
            if end {
                try await client.endHold(device)
                if common.json { try Output.json(Nothing()) }
            } else {
                let device = try await client.hold(device, HoldRequest(seconds: length?.value, reason: reason))
                if common.json { try Output.json(device) }
            }
        }
    }
}
