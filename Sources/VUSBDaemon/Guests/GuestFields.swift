// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// Checks the fields of one guest's declaration.
struct GuestFields {
    let guest: String

    func connector(_ text: String?, among connectors: [String]) throws(Problem) -> String {
        let name = text ?? "local"
        guard connectors.contains(name) else {
            throw malformed("connector", name, "one of \(connectors.sorted().joined(separator: ", "))")
        }
        return name
    }

    func mode(_ text: String?) throws(Problem) -> GuestMode? {
        guard let text, text != "auto" else { return nil }
        guard let mode = GuestMode(rawValue: text) else {
            throw malformed("mode", text, "auto or \(GuestMode.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return mode
    }

    func policy(_ text: String?) throws(Problem) -> GuestPolicy {
        guard let text else { return .manual }
        guard let policy = GuestPolicy(rawValue: text) else {
            throw malformed("policy", text, "one of \(GuestPolicy.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return policy
    }

    func owner(_ text: String?) throws(Problem) -> UInt32 {
        guard let text else { return 0 }
        guard let id = HostAccounts.user(text) else {
            throw malformed("owner", text, "a user of this host, by name or number")
        }
        return id
    }

    func group(_ text: String?) throws(Problem) -> UInt32 {
        guard let text else { return 0 }
        guard let id = HostAccounts.group(text) else {
            throw malformed("group", text, "a group of this host, by name or number")
        }
        return id
    }

    func fileMode(_ text: String?) throws(Problem) -> UInt16 {
        guard let text else { return 0o600 }
        let isOctal = (3...4).contains(text.utf8.count) && text.utf8.allSatisfy { (0x30...0x37).contains($0) }
        guard isOctal, let mode = UInt16(text, radix: 8), mode <= 0o777 else {
            throw malformed("fileMode", text, "permission bits in octal, such as 0660")
        }
        return mode
    }

    func priority(_ number: Int?) throws(Problem) -> Int {
        guard let number else { return GuestDefinition.defaultPriority }
        guard Rules.priorities.contains(number) else {
            throw malformed("priority", "\(number)", "a number from 0 to 99")
        }
        return number
    }

    func limit(_ field: String, _ number: Int?) throws(Problem) -> Int? {
        guard let number else { return nil }
        guard Rules.limits.contains(number) else {
            throw malformed(field, "\(number)", "a number from 1 to \(Rules.limits.upperBound)")
        }
        return number
    }

    func heartbeat(_ seconds: Double?) throws(Problem) -> Duration? {
        guard let seconds else { return nil }
        guard Rules.heartbeats.contains(seconds) else {
            throw malformed("heartbeat", "\(seconds)", "1 to \(Int(Rules.heartbeats.upperBound)) seconds")
        }
        return .seconds(seconds)
    }

    func limits(_ specification: GuestSpec) throws(Problem) -> GuestLimits.Values? {
        let values = GuestLimits.Values(
            bytesPerSecond: try limit("max-bytes-per-second", specification.maxBytesPerSecond),
            urbsInFlight: try limit("max-urbs", specification.maxURBs),
            bytesInFlight: try limit("max-bytes-in-flight", specification.maxBytesInFlight))
        return values == GuestLimits.Values() ? nil : values
    }

    func devices(_ texts: [String]) throws(Problem) -> [DeviceSelector] {
        guard texts.count <= Rules.mostDevices else {
            throw Problem(
                .malformed,
                "guest \(guest) lists \(texts.count) devices",
                remedy: "list at most \(Rules.mostDevices)"
            )
        }
        var selectors: [DeviceSelector] = []
        for text in texts {
            guard let selector = DeviceSelector(text) else {
                throw malformed("devices", text, "device ids such as 1-2, VID:PID or VID:PID:SERIAL")
            }
            if !selectors.contains(selector) { selectors.append(selector) }
        }
        return selectors
    }

    func malformed(_ field: String, _ value: String, _ allowed: String) -> Problem {
        Problem(.malformed, "\(quoted(value)) is no \(field) for guest \(guest)", remedy: "give \(allowed)")
    }
}
