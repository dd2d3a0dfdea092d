// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import Yams

/// Reads `access` of vusb.yaml: a list, of which the first entry that names somebody holds.
struct AccessReader {
    private static let keys = ["user", "group", "role", "guests"]

    private(set) var faults: [ConfigurationFault] = []

    mutating func read(_ node: Node, line: Int?) -> [AccessRule] {
        guard case .sequence(let sequence) = node else {
            faults.append(
                ConfigurationFault(
                    line: line, key: "access", message: "must be a list", remedy: "begin each rule with '- user: NAME'")
            )
            return []
        }
        return sequence.enumerated().compactMap { index, item in rule(item, "access[\(index)]") }
    }

    private mutating func rule(_ node: Node, _ key: String) -> AccessRule? {
        var mapping = YAMLMapping(node, path: key)
        mapping.checkKeys(Self.keys)
        let users = account("user", &mapping, HostAccounts.user)
        let groups = account("group", &mapping, HostAccounts.group)
        if mapping.node("user") == nil, mapping.node("group") == nil {
            mapping.fault("user", mapping.line, "it names nobody", remedy: "give a user or a group")
        }
        let role = role(&mapping)
        let guests = guests(&mapping, role)
        let isWrong = !mapping.faults.isEmpty
        faults += mapping.faults
        guard !isWrong, let role else { return nil }
        return AccessRule(name: key, users: users, groups: groups, role: role, guests: guests)
    }

    private func account(
        _ name: String, _ mapping: inout YAMLMapping, _ find: (String) -> UInt32?
    ) -> Set<UInt32> {
        guard let text = mapping.string(name) else { return [] }
        guard let number = find(text) else {
            mapping.fault(
                name, mapping.node(name)?.line, "there is no \(name) \(quoted(text))",
                remedy: "give a name or number of this host's")
            return []
        }
        return [number]
    }

    private func role(_ mapping: inout YAMLMapping) -> AccessRole? {
        let choices = AccessRole.allCases.map(\.rawValue).joined(separator: ", ")
        guard let text = mapping.string("role") else {
            if mapping.node("role") == nil {
                mapping.fault("role", mapping.line, "is missing", remedy: "one of \(choices)")
            }
            return nil
        }
        guard let role = AccessRole(rawValue: text) else {
            mapping.fault("role", mapping.node("role")?.line, "\(quoted(text)) is none", remedy: "one of \(choices)")
            return nil
        }
        return role
    }

    private func guests(_ mapping: inout YAMLMapping, _ role: AccessRole?) -> Set<String> {
        let entries = mapping.strings("guests") ?? []
        if role == .guest, entries.isEmpty {
            mapping.fault("guests", mapping.line, "role guest needs some", remedy: "list those that are its own")
        } else if role != .guest, let first = entries.first {
            mapping.fault("guests", first.line, "only role guest has some", remedy: "leave them out")
        }
        for entry in entries where (try? GuestName.check(entry.text)) == nil {
            mapping.fault("guests[\(entry.index)]", entry.line, "\(quoted(entry.text)) can't be a guest's name")
        }
        return Set(entries.map(\.text))
    }
}
