// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct ClaimAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Adds a claim behind all others: what fits it belongs to its guests, in their order.",
        discussion: """
            TERM=VALUE is serial=TEXT, product=VID:PID or product=VID, port=1-2.3 or port=1-2.* (all below that hub), \
            class=08 (the device's or an interface's), interface=03:01:01 (or fewer of them), source=libusb or \
            source=emulation. The first claim that fits a device decides; 'vusbctl claim explain' says which.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(help: "1 to 63 of a-z, 0-9 and -, not beginning with -.")
    var name: String

    @Option(help: ArgumentHelp("What must fit; all of them, where there are more.", valueName: "term=value"))
    var match: [String]

    @Option(help: ArgumentHelp("What must not fit.", valueName: "term=value"))
    var except: [String] = []

    @Option(name: .customLong("guest"), help: "Who gets it; of more, the first that is loaded.")
    var guests: [String]

    @Flag(help: "Also what the host itself uses: a mounted disk, the console's keyboard.")
    var force = false

    @Option(
        name: .customLong("fail-back"),
        help: """
            When an earlier guest gets it again that comes up after a later one got it: never, idle (once that doesn't use \
            it) or now (after 5 s even if it does). Default: never.
            """)
    var failBack: ClaimSpec.FailBack?

    func run() async throws {
        let specification = ClaimSpec(
            name: name, match: match, except: except.isEmpty ? nil : except, guests: guests, force: force ? true : nil,
            failBack: failBack)
        try await common.run { client in
            let claim = try await client.addClaim(specification)
            if common.json { return try Output.json(claim) }
            let devices = claim.devices.isEmpty ? "no device now" : claim.devices.joined(separator: " ")
            try Output.print("\(claim.name) decides on \(devices)")
        }
    }
}

extension ClaimSpec.FailBack: ExpressibleByArgument {}
