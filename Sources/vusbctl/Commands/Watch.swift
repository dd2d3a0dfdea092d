// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import FoundationEssentials
import VUSBControl

struct Watch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints events as they happen, until ^C. With --json, each is a line.")

    @OptionGroup var common: CommonOptions

    @Option(help: "First print the events with a higher number that are still known.")
    var after: UInt64?

    func run() async throws {
        Output.endWhenUnread()
        try await common.run { client in
            try await client.events(after: after) { event in
                if common.json {
                    try Output.json(event, lines: true)
                } else {
                    try Output.print(Self.line(event))
                }
            }
            throw Failure(.failed, "vusbd at \(client.socketPath) stopped")
        }
    }

    private static func line(_ event: EventInfo) -> String {
        let time = Date(timeIntervalSince1970: event.time)
            .formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        let names = [("guest", event.guest), ("device", event.device), ("path", event.path)].compactMap { name, value in
            value.map { "\(name)=\($0)" }
        }
        return Output.harmless(
            ([time, String(event.sequence), event.type] + names + [event.detail].compactMap { $0 })
                .joined(separator: " "))
    }
}
