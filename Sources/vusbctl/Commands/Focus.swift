// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Focus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Gives all devices of a set to one guest; without GUEST, lists the sets.",
        discussion: """
            Sets are declared in vusb.yaml, under `focus`. Either all of a set's devices go over or none: one that is in use \
            at the deadline keeps the others where they are, unless --on-deadline cancel takes it all the same. Keyboards, \
            mice and the like are waited for only while somebody holds them.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(help: "The name of the guest that is to have them.")
    var guest: String?

    @Option(help: "The set, where the guest is in several.")
    var set: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "How long to wait for each device that is in use, such as 5s or 500ms; 1h at most. Default: 5s.",
            valueName: "time"),
        transform: Seconds.within(Rules.deadlines))
    var deadline: Seconds?

    @Option(name: .customLong("on-deadline"), help: "What happens then: refuse or cancel. Default: refuse.")
    var onDeadline: FocusRequest.OnDeadline?

    func validate() throws {
        if guest == nil, set != nil || deadline != nil || onDeadline != nil {
            throw ValidationError("the list of sets takes no options; give a GUEST")
        }
    }

    func run() async throws {
        try await common.run { client in
            guard let guest else {
                let sets = try await client.focusSets()
                if common.json { return try Output.json(sets) }
                return try Output.print(Self.text(sets))
            }
            let request = FocusRequest(
                guest: guest, set: set, deadlineSeconds: deadline?.value, onDeadline: onDeadline)
            let operation = try await client.focus(request)
            try await Following(client: client, options: common).finish(operation)
        }
    }

    private static func text(_ sets: [FocusInfo]) -> String {
        var table = Table("SET", "FOCUSED", "GUESTS", "DEVICES", "PRESENT", "HOT KEY", "FOLLOWS")
        for set in sets {
            table.add(
                set.name, set.focused ?? "-", set.guests.joined(separator: " "), set.devices.joined(separator: " "),
                set.present.joined(separator: " "), set.hotKey ?? "-", set.follows ? "yes" : "no")
        }
        return table.text
    }
}

extension FocusRequest.OnDeadline: ExpressibleByArgument {}
