// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

struct Claim: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says for good which guests devices belong to.",
        subcommands: [ClaimAdd.self, ClaimList.self, ClaimRemove.self, ClaimExplain.self])
}
