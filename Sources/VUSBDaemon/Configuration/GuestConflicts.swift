// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// What only one of the configured guests can have.
enum GuestConflicts {
    /// - Parameter line: of a guest.
    static func faults(in guests: [GuestSpec], line: (String) -> Int?) -> [ConfigurationFault] {
        shared("listen", guests, line) { ($0.listen ?? []).map { ($0, USBIPAddress($0)) } }
            + shared("clients", guests, line) { ($0.clients ?? []).map { ($0, USBIPClient($0)) } }
    }

    /// - Parameter values: of a guest, as they are written and as what they mean; nil for one that is told of elsewhere.
    private static func shared<Value: Equatable>(
        _ key: String, _ guests: [GuestSpec], _ line: (String) -> Int?, _ values: (GuestSpec) -> [(String, Value?)]
    ) -> [ConfigurationFault] {
        var owners: [(value: Value, guest: String)] = []
        var faults: [ConfigurationFault] = []
        for guest in guests {
            for case (let text, let value?) in values(guest) {
                if let owner = owners.first(where: { $0.value == value && $0.guest != guest.name }) {
                    faults.append(
                        ConfigurationFault(
                            line: line(guest.name), key: "guests.\(guest.name).\(key)",
                            message: "\(quoted(text)) is guest \(owner.guest)'s already",
                            remedy: "give each guest one of its own"))
                }
                owners.append((value, guest.name))
            }
        }
        return faults
    }
}
