// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Guests: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists the guests.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        try await common.run { client in
            let guests = try await client.guests()
            if common.json { try Output.json(guests) } else { try Output.print(Self.text(guests)) }
        }
    }

    private static func text(_ guests: [GuestInfo]) -> String {
        var table = Table(
            "GUEST", "CONNECTOR", "MODE", "STATE", "LOADED AS", "MACHINE", "CHANNEL", "OWNER", "FILES", "HAS",
            "DECLARED BY")
        for guest in guests {
            let held = guest.attachments.map(\.device).joined(separator: " ")
            let mode = guest.policy == "manual" ? guest.mode : "\(guest.mode), \(guest.policy)"
            table.add(
                guest.name, guest.connector, mode, Self.state(guest), guest.loadedMode,
                guest.machine?.rawValue, guest.channel.map(Self.text), "\(guest.owner):\(guest.group)", guest.fileMode,
                held,
                guest.declaredBy)
        }
        let reasons = guests.compactMap { guest in guest.reason.map { Output.harmless("\(guest.name): \($0)") } }
        let notes = reasons + guests.flatMap(\.importerTexts) + guests.compactMap(\.autoText)
        return ([table.text] + (notes.isEmpty ? [] : [""]) + notes).joined(separator: "\n")
    }

    /// One that doesn't keep its heartbeat up stays loaded, without devices.
    private static func state(_ guest: GuestInfo) -> String {
        guest.silent ? guest.state.rawValue + ", silent" : guest.state.rawValue
    }

    /// One that's slow is told of by `doctor`, with what to change.
    private static func text(_ channel: ChannelInfo) -> String {
        channel.oneAtATime ? channel.state + ", slow" : channel.state
    }
}

extension GuestInfo {
    /// Which clients of the USB/IP protocol have imported its devices, and how long ago they worked with them.
    var importerTexts: [String] {
        attachments.compactMap { item in
            guard let peer = item.peer else { return nil }
            let idle = item.idleSeconds.map { "idle for \(Int(min($0, 1e12))) s" } ?? "no transfer yet"
            return Output.harmless("\(name): \(item.path) (\(item.device)) is imported by \(peer), \(idle)")
        }
    }

    /// Which mode `auto` has chosen, what it would choose now, and why; nil where there was no choice.
    var autoText: String? {
        guard let auto else { return nil }
        let move = auto.next == auto.mode ? "" : ", and \(auto.next) once it's loaded next or has no device"
        return Output.harmless("\(name): mode auto is \(auto.mode)\(move): \(auto.reason)")
    }
}
