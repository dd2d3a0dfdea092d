// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import VUSBControl

struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Imports a device from another USB/IP server, and prints its id.",
        discussion: """
            SERVER is \(Rules.serverForm); the port is 3240 unless given. Without BUSID, what the server lends is listed.

            The device is imported for good: when its server or the connection comes back, so does the device, also after a \
            restart of vusbd, until 'vusbctl forget'. Where the first try fails nothing stays, unless --keep-trying says \
            otherwise. ^C takes the import back.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(help: "Where the server is.")
    var server: String

    @Argument(help: "What the server calls the device, such as 1-2.")
    var busid: String?

    @Option(help: "The device's id is ip-NAME; else it follows from SERVER and BUSID.")
    var name: String?

    @Flag(help: "Stay with it also where the first try fails.")
    var keepTrying = false

    func validate() throws {
        guard busid == nil, name != nil || keepTrying else { return }
        throw ValidationError("--name and --keep-trying are for one device: give its BUSID")
    }

    func run() async throws {
        try await common.run { client in
            guard let busid else { return try show(try await client.offers(of: server)) }
            let request = ImportRequest(
                server: server, busid: busid, name: name, keepTrying: keepTrying ? true : nil)
            let operation = try await client.addImport(request)
            try await Following(client: client, options: common).finish(operation)
            if !common.json, let id = operation.device { try Output.print(Output.harmless(id)) }
        }
    }

    private func show(_ offers: [OfferInfo]) throws {
        if common.json { return try Output.json(offers) }
        var table = Table("BUSID", "VID:PID", "SPEED", "CLASS", "KIND", "IMPORTED AS", "NAME")
        for offer in offers where offer.fault == nil {
            table.add(
                offer.busid, "\(offer.idVendor):\(offer.idProduct)", offer.speed, offer.deviceClass, offer.kind,
                Self.imported(offer), offer.name)
        }
        let leftOut = offers.compactMap { offer in
            offer.fault.map { Output.harmless("left out '\(offer.busid)', which can't be imported: \($0)") }
        }
        try Output.print(([table.text] + (leftOut.isEmpty ? [] : [""]) + leftOut).joined(separator: "\n"))
    }

    /// One that another has waits with that for a reason.
    private static func imported(_ offer: OfferInfo) -> String? {
        guard let id = offer.imported else { return nil }
        guard let state = offer.importState, state != .imported else { return id }
        return "\(id), \(state.rawValue)" + (offer.reason.map { ": " + $0 } ?? "")
    }
}
