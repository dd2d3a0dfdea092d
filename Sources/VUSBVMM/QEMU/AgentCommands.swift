// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What `guest-info` says of an agent.
struct AgentCommands: Sendable, Equatable {
    /// Such as `7.2.22`.
    let version: String
    /// All that it has, and whether it's enabled.
    let isEnabled: [String: Bool]

    init(_ info: JSONValue) {
        version = info["version"]?.string.map { PlainText.line($0, limit: 50) } ?? "?"
        var isEnabled: [String: Bool] = [:]
        for command in info["supported_commands"]?.array ?? [] {
            guard let name = command["name"]?.string else { continue }
            isEnabled[name] = command["enabled"]?.bool ?? false
        }
        self.isEnabled = isEnabled
    }

    /// - Throws: `unsupported`, naming all that are missing, and how to allow them.
    func require(_ needed: [String], of guest: String) throws(USBError) {
        let blocked = needed.filter { isEnabled[$0] == false }
        guard blocked.isEmpty else { throw AgentError.blocked(blocked, guest) }
        let unknown = needed.filter { isEnabled[$0] == nil }
        guard unknown.isEmpty else { throw AgentError.unknown(unknown, guest, version) }
    }
}
