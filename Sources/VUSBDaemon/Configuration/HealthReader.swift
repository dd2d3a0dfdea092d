// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Reads `health` of vusb.yaml: when a device counts as misbehaving. What it doesn't name keeps its default.
struct HealthReader {
    private static let keys = ["stalls", "control-stalls", "babble", "errors", "disconnects", "cancel", "calm"]
    private static let times = 0.1...3600.0

    private var mapping: YAMLMapping
    var faults: [ConfigurationFault] { mapping.faults }

    init(_ mapping: YAMLMapping) { self.mapping = mapping }

    mutating func read() -> HealthLimits {
        mapping.checkKeys(Self.keys)
        var limits = HealthLimits()
        read("stalls", into: &limits.stalls)
        read("control-stalls", into: &limits.controlStalls)
        read("babble", into: &limits.babble)
        read("errors", into: &limits.protocolErrors)
        read("disconnects", into: &limits.disconnects)
        if mapping.node("cancel") != nil {
            limits.cancelTime =
                mapping.isOff("cancel") ? nil : mapping.seconds("cancel", in: Self.times).map { .seconds($0) }
        }
        if let calm = mapping.seconds("calm", in: Self.times) { limits.calm = .seconds(calm) }
        return limits
    }

    /// `COUNT in TIME`, such as `1000 in 10s`, or `off`.
    private mutating func read(_ name: String, into limit: inout EventLimit) {
        guard let text = mapping.string(name) else { return }
        guard !mapping.isOff(name) else {
            limit = .off
            return
        }
        let words = text.split(separator: " ")
        guard words.count == 3, words[1] == "in", let count = Int(words[0]), (1...1_000_000).contains(count),
            let seconds = YAMLMapping.seconds(String(words[2])), Self.times.contains(seconds)
        else {
            return mapping.fault(
                name, mapping.node(name)?.line, "\(quoted(text)) is no limit", remedy: "write as 1000 in 10s, or off")
        }
        limit.count = count
        limit.window = .seconds(seconds)
    }
}
