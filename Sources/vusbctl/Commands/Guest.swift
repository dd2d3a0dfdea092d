// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

struct Guest: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Declares a guest, or forgets it.", subcommands: [GuestAdd.self, GuestRemove.self])
}
