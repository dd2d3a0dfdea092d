// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

extension ModuleLoader {
    /// Who uses devices of the module's root hubs: mounted file systems, swap, device-mapper and md, open device
    /// nodes, network interfaces that are up. In the order of the devices.
    package func users() async throws(USBError) -> [GuestUser] {
        let answer = try await kernel.ask(GuestScript.users, named: "vusb-users-1", [], limit: .seconds(30))
        return GuestUserList(answer).users
    }
}

/// Makes sentences of what `GuestScript.users` found.
struct GuestUserList {
    let users: [GuestUser]

    private static let maximumCount = 200

    /// They watch devices and let go of them by themselves when those go.
    private static let watchers: Set<String> = [
        "systemd-logind", "systemd-udevd", "(udev-worker)", "elogind-daemon", "acpid", "upowerd",
    ]

    init(_ answer: GuestAnswer) {
        var ports: [String: String] = [:]
        var found: Set<GuestUser> = []
        for line in answer.lines where line.keyword == "node" {
            let fields = line.value.split(separator: " ")
            guard fields.count == 4, let port = Self.port(in: fields[3]) else { continue }
            ports[String(fields[2])] = port
        }
        for line in answer.lines where found.count < Self.maximumCount {
            guard let user = Self.user(line, ports) else { continue }
            found.insert(user)
        }
        users = found.sorted { ($0.device, $0.text) < ($1.device, $1.text) }
    }

    private static func user(_ line: GuestAnswer.Line, _ ports: [String: String]) -> GuestUser? {
        let fields = line.value.split(separator: " ", maxSplits: 1).map { String($0) }
        guard let name = fields.first else { return nil }
        let rest = fields.count > 1 ? fields[1] : ""
        if line.keyword == "up" {
            return port(in: Substring(rest)).map { user($0, "network interface \(name) is up") }
        }
        guard let device = ports[name], let what = use(line.keyword, rest) else { return nil }
        return user(device, "/dev/\(name) \(what)")
    }

    private static func user(_ device: String, _ text: String) -> GuestUser {
        GuestUser(device: device, text: PlainText.line(text, limit: 200))
    }

    private static func use(_ keyword: String, _ rest: String) -> String? {
        let words = rest.split(separator: " ", maxSplits: 1).map { String($0) }
        switch keyword {
        case "mount": return MountInfoLine(Substring(rest)).map { "mounted on \($0.mountPoint)" }
        case "swap": return "used as swap"
        case "holder":
            guard let holder = words.first else { return nil }
            return "held by \(holder)" + (words.count > 1 ? " (\(words[1]))" : "")
        case "open":
            guard let number = words.first.flatMap({ Int($0) }) else { return nil }
            let command = words.count > 1 ? words[1] : "?"
            return watchers.contains(command) ? nil : "open by \(command) (\(number))"
        default: return nil
        }
    }

    /// The device's port path, `3-1.2` of `.../usb3/3-1/3-1.2/3-1.2:1.0/...`; nil for a root hub itself.
    static func port(in path: Substring) -> String? {
        let parts = path.split(separator: "/")
        guard let hub = parts.firstIndex(where: { $0.hasPrefix("usb") && Int($0.dropFirst(3)) != nil }) else {
            return nil
        }
        let prefix = parts[hub].dropFirst(3) + "-"
        return parts[(hub + 1)...].prefix { $0.hasPrefix(prefix) && !$0.contains(":") }.last.map { String($0) }
    }
}
