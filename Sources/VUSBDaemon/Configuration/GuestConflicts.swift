// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// What only one of the configured guests can have.
enum GuestConflicts {
    /// - Parameters:
    ///   - listeners: those of all guests.
    ///   - line: of a guest.
    static func faults(
        in guests: [GuestSpec], besides listeners: [USBIPAddress], line: (String) -> Int?
    ) -> [ConfigurationFault] {
        let own = listeners.map { (value: $0, owner: "all guests'") }
        let addresses = guests.map { guest in (guest.name, (guest.listen ?? []).map { ($0, USBIPAddress($0)) }) }
        let clients = guests.map { guest in (guest.name, (guest.clients ?? []).map { ($0, USBIPClient($0)) }) }
        return shared("listen", addresses, own, line) { $0.conflicts(with: $1) }
            + shared("clients", clients, [], line) { $0 == $1 }
    }

    /// - Parameters:
    ///   - guests: with their values, as they are written and as what they mean; nil for one that is told of elsewhere.
    ///   - taken: what isn't a guest's, with whose it is.
    ///   - collide: whether only one can have them.
    private static func shared<Value>(
        _ key: String, _ guests: [(name: String, values: [(String, Value?)])], _ taken: [(value: Value, owner: String)],
        _ line: (String) -> Int?, _ collide: (Value, Value) -> Bool
    ) -> [ConfigurationFault] {
        var owners = taken
        var faults: [ConfigurationFault] = []
        for guest in guests {
            let name = "guest \(guest.name)'s"
            for case (let text, let value?) in guest.values {
                if let owner = owners.first(where: { $0.owner != name && collide($0.value, value) }) {
                    faults.append(
                        ConfigurationFault(
                            line: line(guest.name), key: "guests.\(guest.name).\(key)",
                            message: "\(quoted(text)) is \(owner.owner) already",
                            remedy: "give each guest one of its own"))
                }
                owners.append((value, name))
            }
        }
        return faults
    }
}
