// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import Yams

/// Reads `claims` of vusb.yaml: a list, since their order matters.
struct ClaimReader {
    private static let keys = ["name", "match", "except", "guests", "force", "fail-back"]

    private(set) var faults: [ConfigurationFault] = []
    /// What was read so far: each is checked against those before it.
    private var table = ClaimTable()

    mutating func read(_ node: Node, line: Int?) -> [ClaimSpec] {
        guard case .sequence(let sequence) = node else {
            fault("claims", line, "must be a list", remedy: "begin each claim with '- name: NAME'")
            return []
        }
        return sequence.enumerated().compactMap { index, item in claim(item, "claims[\(index)]") }
    }

    private mutating func claim(_ node: Node, _ key: String) -> ClaimSpec? {
        var mapping = YAMLMapping(node, path: key)
        mapping.checkKeys(Self.keys)
        let specification = ClaimSpec(
            name: mapping.string("name") ?? "",
            match: texts("match", &mapping),
            except: texts("except", &mapping),
            guests: texts("guests", &mapping),
            force: mapping.boolean("force"),
            failBack: failBack(&mapping)
        )
        let isWrong = !mapping.faults.isEmpty
        faults += mapping.faults
        guard !isWrong else { return nil }
        do {
            try specification.check()
            try table.add(Claim(specification, declaredBy: .configuration))
            return specification
        } catch {
            fault(key, mapping.line, error.detail, remedy: error.remedy)
            return nil
        }
    }

    private func texts(_ name: String, _ mapping: inout YAMLMapping) -> [String] {
        (mapping.strings(name) ?? []).map(\.text)
    }

    private func failBack(_ mapping: inout YAMLMapping) -> ClaimSpec.FailBack? {
        guard let text = mapping.string("fail-back") else { return nil }
        guard let choice = ClaimSpec.FailBack(rawValue: text) else {
            let choices = ClaimSpec.FailBack.allCases.map(\.rawValue)
            let line = mapping.node("fail-back")?.line
            mapping.fault(
                "fail-back", line, "\(quoted(text)) is none", remedy: "one of \(choices.joined(separator: ", "))")
            return nil
        }
        return choice
    }

    private mutating func fault(_ key: String, _ line: Int?, _ message: String, remedy: String? = nil) {
        faults.append(ConfigurationFault(line: line, key: key, message: message, remedy: remedy))
    }
}
