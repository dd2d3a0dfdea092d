// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Cancels an operation that runs; what it has done by then is undone.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "Its number, as 'vusbctl operations' lists it.")
    var operation: Int

    func run() async throws {
        try await common.run { client in
            var ended = try await client.cancelOperation(operation)
            if ended.state == .running { ended = try await client.follow(ended) { _ in } }
            if common.json { try Output.json(ended) }
            guard ended.state != .cancelled else { return }
            throw Failure(
                Problem(
                    .conflict, "operation \(operation) \(ended.state.rawValue) before it could be cancelled",
                    remedy: "'vusbctl operations' has its last step"))
        }
    }
}
