// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import Yams

/// Reads `focus` of vusb.yaml: a list of sets.
struct FocusReader {
    private static let keys = ["name", "devices", "guests", "hot-key", "follow"]

    private(set) var faults: [ConfigurationFault] = []
    private var names: Set<String> = []

    mutating func read(_ node: Node, line: Int?) -> [FocusSet] {
        guard case .sequence(let sequence) = node else {
            fault("focus", line, "must be a list", remedy: "begin each set with '- name: NAME'")
            return []
        }
        let sets = sequence.enumerated().compactMap { index, item in set(item, "focus[\(index)]") }
        if sets.count > FocusSet.limit { fault("focus", line, "has more than \(FocusSet.limit) sets") }
        return sets
    }

    private mutating func set(_ node: Node, _ key: String) -> FocusSet? {
        var mapping = YAMLMapping(node, path: key)
        mapping.checkKeys(Self.keys)
        let set = FocusSet(
            name: name(&mapping), devices: devices(&mapping), guests: guests(&mapping), chord: chord(&mapping),
            follows: mapping.boolean("follow") ?? false)
        let isWrong = !mapping.faults.isEmpty
        faults += mapping.faults
        return isWrong ? nil : set
    }

    private mutating func name(_ mapping: inout YAMLMapping) -> String {
        let name = mapping.string("name") ?? ""
        let line = mapping.node("name")?.line ?? mapping.line
        if (try? GuestName.check(name)) == nil {
            mapping.fault("name", line, "\(quoted(name)) is none", remedy: "use a-z, 0-9 and -")
        } else if !names.insert(name).inserted {
            mapping.fault("name", line, "there are two sets \(quoted(name))", remedy: "rename one")
        }
        return name
    }

    private func devices(_ mapping: inout YAMLMapping) -> [DeviceSelector] {
        let entries = mapping.strings("devices") ?? []
        if entries.isEmpty { mapping.fault("devices", mapping.line, "there are none", remedy: "list at least one") }
        return entries.compactMap { entry in
            let selector = DeviceSelector(entry.text)
            if selector == nil {
                mapping.fault(
                    "devices[\(entry.index)]", entry.line, "\(quoted(entry.text)) names no device",
                    remedy: "write a device id, VID:PID or VID:PID:SERIAL")
            }
            return selector
        }
    }

    private func guests(_ mapping: inout YAMLMapping) -> [String] {
        let entries = mapping.strings("guests") ?? []
        if entries.isEmpty || entries.count > FocusSet.guestLimit {
            mapping.fault("guests", mapping.line, "must be 1 to \(FocusSet.guestLimit): one for each digit")
        }
        var seen: Set<String> = []
        for entry in entries {
            let key = "guests[\(entry.index)]"
            if (try? GuestName.check(entry.text)) == nil {
                mapping.fault(key, entry.line, "\(quoted(entry.text)) can't be a guest's name")
            } else if !seen.insert(entry.text).inserted {
                mapping.fault(key, entry.line, "guest \(entry.text) is there twice", remedy: "keep one")
            }
        }
        return entries.map(\.text)
    }

    private func chord(_ mapping: inout YAMLMapping) -> KeyboardChord.Definition? {
        let text = mapping.string("hot-key") ?? FocusSet.defaultHotKey
        guard text != "none" else { return nil }
        do {
            return try KeyboardChord.Definition(parsing: text)
        } catch {
            mapping.fault(
                "hot-key", mapping.node("hot-key")?.line, "\(error)",
                remedy: "write as \(FocusSet.defaultHotKey), or none")
            return nil
        }
    }

    private mutating func fault(_ key: String, _ line: Int?, _ message: String, remedy: String? = nil) {
        faults.append(ConfigurationFault(line: line, key: key, message: message, remedy: remedy))
    }
}
