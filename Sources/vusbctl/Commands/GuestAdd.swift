// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct GuestAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Declares a guest. It's loaded with 'vusbctl load'.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "1 to 63 of a-z, 0-9 and -, not beginning with -.")
    var name: String

    @Option(help: "How vusbd reaches the guest. Default: local, a process or container on this host.")
    var connector: String?

    @Option(help: "files or auto.")
    var mode: String?

    @Option(help: "The user that owns the guest's files, by name or number. Default: root.")
    var owner: String?

    @Option(help: "The group of the guest's files, by name or number. Default: root.")
    var group: String?

    @Option(help: "Permission bits of the guest's files in octal. Default: 0600.")
    var fileMode: String?

    @Option(
        name: .customLong("device"),
        help: "A device that it's to have when it's loaded. Can be given more than once.")
    var devices: [String] = []

    func run() async throws {
        let specification = GuestSpec(
            name: name, connector: connector, mode: mode, owner: owner, group: group, fileMode: fileMode,
            devices: devices.isEmpty ? nil : devices)
        try await common.run { client in
            let guest = try await client.addGuest(specification)
            if common.json { try Output.json(guest) }
        }
    }
}
