// SPDX-License-Identifier: Apache-2.0

extension GuestSpec: RequestMessage {
    static let fields = [
        "name", "connector", "mode", "qmp", "agent", "share", "policy", "owner", "group", "fileMode", "nodes",
        "devices",
    ]

    func check() throws(Problem) {
        _ = try Rules.guestName(name, "field 'name'")
        try Rules.choice(connector, of: Rules.connectors, "connector")
        try Rules.choice(mode, of: Rules.modes, "mode")
        try Rules.choice(policy, of: Rules.policies, "policy")
        try Rules.socketPath(qmp, "qmp")
        try Rules.socketPath(agent, "agent")
        try Rules.share(share, "share")
        if let owner { try Rules.account(owner, "owner") }
        if let group { try Rules.account(group, "group") }
        if let fileMode { try Rules.fileMode(fileMode) }
        guard let devices else { return }
        guard devices.count <= Rules.mostDevices else {
            throw Problem(.malformed, "field 'devices' has more than \(Rules.mostDevices)")
        }
        for device in devices { _ = try Rules.deviceName(device, "field 'devices':") }
    }
}

extension LoadRequest: RequestMessage {
    static let fields = ["mode", "process"]

    func check() throws(Problem) {
        try Rules.choice(mode, of: Rules.modes, "mode")
        try Rules.within(Rules.processes, process, "field 'process'")
    }
}

extension ReleaseRequest: RequestMessage {
    static let fields = ["deadlineSeconds", "onDeadline"]

    func check() throws(Problem) { try Rules.within(Rules.deadlines, deadlineSeconds, "field 'deadlineSeconds'") }
}

extension AttachRequest: RequestMessage {
    static let fields = ["guest"]

    func check() throws(Problem) { _ = try Rules.guestName(guest, "field 'guest'") }
}

extension EmulateRequest: RequestMessage {
    static let fields = ["specification"]

    func check() throws(Problem) {
        let scalars = specification.unicodeScalars
        guard !scalars.isEmpty, scalars.count <= Rules.longestSpecification,
            scalars.allSatisfy({ !Rules.isControl($0) })
        else {
            throw Problem(
                .malformed, "field 'specification' isn't 1 to \(Rules.longestSpecification) printable characters",
                remedy: "write it as KIND[=ARGUMENT][,OPTION=VALUE...]")
        }
    }
}

extension TypeRequest: RequestMessage {
    static let fields = ["text"]

    /// What a boot keyboard of US layout can type: printable ASCII, tab and newline.
    func check() throws(Problem) {
        guard (1...Rules.longestText).contains(text.unicodeScalars.count) else {
            throw Problem(.malformed, "field 'text' isn't 1 to \(Rules.longestText) characters long")
        }
        let other = text.unicodeScalars.first { !(0x20...0x7e).contains($0.value) && $0 != "\t" && $0 != "\n" }
        if let other {
            throw Problem(
                .malformed, "field 'text' has U+\(String(other.value, radix: 16, uppercase: true)), which has no key",
                remedy: "use printable ASCII, tab and newline")
        }
    }
}
