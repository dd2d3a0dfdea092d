// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shows how the daemon is and what guests hold.")

    @OptionGroup var common: CommonOptions

    @Flag(help: "Show it anew every second, until ^C. With --json, each time is a line.")
    var watch = false

    func run() async throws {
        if watch { Output.endWhenUnread() }
        try await common.run { client in
            try await show(client)
            while watch {
                try await Task.sleep(for: .seconds(1))
                try await show(client)
            }
        }
    }

    private func show(_ client: ControlClient) async throws {
        let status = try await client.status()
        let guests = try await client.guests()
        let away = try await client.imports().filter { $0.state != .imported }
        let attachments = guests.flatMap(\.attachments)
        guard !common.json else {
            let rows = guests.flatMap { guest in guest.attachments.map { Row(attachment: $0, machine: guest.machine) } }
            let auto = guests.compactMap { guest in guest.auto.map { AutoRow(guest: guest.name, auto: $0) } }
            return try Output.json(Report(status: status, attached: rows, auto: auto, away: away), lines: watch)
        }
        var table = attachments.isEmpty ? "" : "\n\n" + Self.table(guests)
        let notes = guests.flatMap(\.importerTexts) + away.map(\.awayText) + guests.compactMap(\.autoText)
        if !notes.isEmpty { table += "\n\n" + notes.joined(separator: "\n") }
        let begin = watch && Output.isOnTerminal ? Output.home : ""
        try Output.print(begin + Self.text(status) + table)
    }

    /// The daemon's status, and the rows that the text shows below it.
    private struct Report: Encodable {
        var status: DaemonStatus
        var attached: [Row]
        var auto: [AutoRow]
        /// Imports whose device isn't there now.
        var away: [ImportInfo]

        private enum Key: String, CodingKey { case attached, auto, away }

        func encode(to encoder: any Encoder) throws {
            try status.encode(to: encoder)
            var fields = encoder.container(keyedBy: Key.self)
            try fields.encode(attached, forKey: .attached)
            try fields.encode(auto, forKey: .auto)
            try fields.encode(away, forKey: .away)
        }
    }

    /// Why a guest has the mode that `auto` has chosen.
    private struct AutoRow: Encodable {
        var guest: String
        var auto: AutoModeInfo

        private enum Key: String, CodingKey { case guest }

        func encode(to encoder: any Encoder) throws {
            try auto.encode(to: encoder)
            var fields = encoder.container(keyedBy: Key.self)
            try fields.encode(guest, forKey: .guest)
        }
    }

    private struct Row: Encodable {
        var attachment: AttachmentInfo
        var machine: GuestInfo.Machine?

        private enum Key: String, CodingKey { case machine }

        func encode(to encoder: any Encoder) throws {
            try attachment.encode(to: encoder)
            var fields = encoder.container(keyedBy: Key.self)
            try fields.encodeIfPresent(machine, forKey: .machine)
        }
    }

    private static func text(_ status: DaemonStatus) -> String {
        """
        vusbd \(Output.harmless(status.version)), process \(status.pid), up \(uptime(status.uptimeSeconds))
        files at \(Output.harmless(status.mount))
        \(count(status.guests, "guest")), \(count(status.devices, "device")), \(status.attachments) attached, \
        \(count(status.urbsInFlight, "transfer")) in flight
        """
    }

    private static func count(_ number: Int, _ what: String) -> String { "\(number) \(what)\(number == 1 ? "" : "s")" }

    private static func uptime(_ seconds: Double) -> String {
        let seconds = Int(min(max(seconds, 0), 1e12))
        let parts = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")]
        let first = parts.firstIndex { $0.0 > 0 } ?? 3
        return parts[first...].prefix(2).map { "\($0.0)\($0.1)" }.joined(separator: " ")
    }

    private static func table(_ guests: [GuestInfo]) -> String {
        var table = Table(
            "GUEST", "MODE", "PATH", "DEVICE", "STATE", "IN FLIGHT", "TRANSFERS", "FAILED", "BYTES IN", "BYTES OUT",
            "BUSY")
        for guest in guests {
            // Nothing moves in a machine that's paused, whatever its connection is like.
            let machine = guest.machine.flatMap { $0 == .running ? nil : ", machine \($0)" } ?? ""
            for item in guest.attachments {
                table.add(
                    item.guest, item.mode, item.path, item.device, item.state + machine, String(item.urbsInFlight),
                    String(item.urbs), String(item.failedURBs), String(item.bytesIn), String(item.bytesOut),
                    item.busy.first)
            }
        }
        return table.text
    }
}
