// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import FoundationEssentials
import VUSBControl

struct Imports: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the devices that are imported from other USB/IP servers.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        try await common.run { client in
            let imports = try await client.imports()
            if common.json { try Output.json(imports) } else { try Output.print(Self.text(imports)) }
        }
    }

    private static func text(_ imports: [ImportInfo]) -> String {
        var table = Table("DEVICE", "SERVER", "BUSID", "STATE", "SINCE", "DECLARED BY", "REASON")
        for item in imports {
            let since = Date(timeIntervalSince1970: item.since).formatted(Date.ISO8601FormatStyle())
            table.add(item.id, item.server, item.busid, item.state.rawValue, since, item.declaredBy, item.reason)
        }
        return table.text
    }
}

extension ImportInfo {
    /// Of one that isn't there now.
    var awayText: String {
        let reason = reason.map { ": " + $0 } ?? ""
        return Output.harmless("\(id): \(busid) of \(server) isn't here now, \(state.rawValue)\(reason)")
    }
}
