// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Operations: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists operations that run, and the last that ended.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        try await common.run { client in
            let operations = try await client.operations()
            if common.json { try Output.json(operations) } else { try Output.print(Self.text(operations)) }
        }
    }

    private static func text(_ operations: [OperationInfo]) -> String {
        var table = Table("ID", "KIND", "DEVICE", "GUEST", "STATE", "LAST STEP", "ERROR")
        for operation in operations {
            table.add(
                String(operation.id), operation.kind, operation.device, operation.guest, operation.state.rawValue,
                operation.steps.last?.name, operation.error?.detail)
        }
        return table.text
    }
}
