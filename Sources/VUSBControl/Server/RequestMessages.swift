// SPDX-License-Identifier: Apache-2.0

extension GuestSpec: RequestMessage {
    static let fields = [
        "name", "connector", "mode", "qmp", "agent", "share", "policy", "owner", "group", "fileMode", "nodes",
        "priority", "maxBytesPerSecond", "maxURBs", "maxBytesInFlight", "maxDevices", "heartbeatSeconds",
        "listen", "clients", "devices",
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
        try Rules.within(Rules.priorities, priority, "field 'priority'")
        try Rules.within(Rules.limits, maxBytesPerSecond, "field 'maxBytesPerSecond'")
        try Rules.within(Rules.limits, maxURBs, "field 'maxURBs'")
        try Rules.within(Rules.limits, maxBytesInFlight, "field 'maxBytesInFlight'")
        try Rules.within(Rules.limits, maxDevices, "field 'maxDevices'")
        try Rules.within(Rules.heartbeats, heartbeatSeconds, "field 'heartbeatSeconds'")
        try Rules.usbip(listen, clients)
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

extension SwitchRequest: RequestMessage {
    static let fields = ["guest", "deadlineSeconds", "onDeadline"]

    func check() throws(Problem) {
        _ = try Rules.guestName(guest, "field 'guest'")
        try Rules.within(Rules.deadlines, deadlineSeconds, "field 'deadlineSeconds'")
    }
}

extension FocusRequest: RequestMessage {
    static let fields = ["guest", "set", "deadlineSeconds", "onDeadline"]

    func check() throws(Problem) {
        _ = try Rules.guestName(guest, "field 'guest'")
        if let set { _ = try Rules.guestName(set, "field 'set'") }
        try Rules.within(Rules.deadlines, deadlineSeconds, "field 'deadlineSeconds'")
    }
}

extension HoldRequest: RequestMessage {
    static let fields = ["seconds", "reason"]

    func check() throws(Problem) {
        try Rules.within(Rules.holds, seconds, "field 'seconds'")
        guard let reason else { return }
        let scalars = reason.unicodeScalars
        guard scalars.count <= Rules.longestReason, !scalars.contains(where: Rules.isControl) else {
            throw Problem(
                .malformed, "field 'reason' isn't at most \(Rules.longestReason) characters without control characters")
        }
    }
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
    static let fields = ["text", "keys"]

    /// Which keys there are the keyboard knows.
    func check() throws(Problem) {
        guard text != nil || keys != nil else {
            throw Problem(.malformed, "neither field 'text' nor field 'keys' is there")
        }
        if let text { try check(text) }
        guard let keys else { return }
        try Rules.within(1...Rules.mostKeys, keys.count, "the number of entries of field 'keys'")
        for key in keys where !Rules.isKey(key) {
            throw Problem(
                .malformed, "field 'keys' has '\(Rules.shortened(key))', which is no key",
                remedy: "name keys as scrolllock, leftctrl or f1, and others by the character that they type")
        }
    }

    /// What a boot keyboard of US layout can type: printable ASCII, tab and newline.
    private func check(_ text: String) throws(Problem) {
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
