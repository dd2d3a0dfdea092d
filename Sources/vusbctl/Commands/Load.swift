// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Load: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Brings USB up in a guest, with the devices that it's to have.",
        discussion: """
            In mode files its files appear. In mode module the USB module is copied into the guest and loaded there, and \
            the guest's own drivers bind to its devices. In mode redirect the guest's machine gets them at a controller of its own. \
            In mode usbip they are imported by its client, which vusbd does itself where it has an agent in the guest. \
            Nothing is forced, and what fails is undone.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(help: "The guest's name.")
    var guest: String

    @Option(
        help: "files, module, redirect, usbip or auto. Default: as the guest was declared.",
        completion: .list(Rules.modes))
    var mode: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("The guest is this process: when it ends, the guest is unloaded.", valueName: "pid"),
        transform: Number.within(Rules.processes))
    var process: Int?

    func run() async throws {
        try await common.run { client in
            let operation = try await client.load(guest, LoadRequest(mode: mode, process: process))
            try await Following(client: client, options: common).finish(operation)
        }
    }
}
