// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import Yams

/// Reads `imports` of vusb.yaml: a list of devices of other servers.
struct ImportReader {
    private static let keys = ["server", "busid", "name"]

    private(set) var faults: [ConfigurationFault] = []
    private var names: Set<String> = []
    private var devices: Set<[String]> = []

    mutating func read(_ node: Node, line: Int?) -> [ImportSpec] {
        guard case .sequence(let sequence) = node else {
            fault("must be a list", line, remedy: "begin each import with '- server: ADDRESS'")
            return []
        }
        let imports = sequence.enumerated().compactMap { index, item in specification(item, "imports[\(index)]") }
        if imports.count > Rules.mostImports { fault("has more than \(Rules.mostImports)", line) }
        return imports
    }

    private mutating func specification(_ node: Node, _ key: String) -> ImportSpec? {
        var mapping = YAMLMapping(node, path: key)
        mapping.checkKeys(Self.keys)
        let server = text("server", &mapping, "address of a server", "write \(Rules.serverForm)", Rules.isServer)
        let busid = text(
            "busid", &mapping, "busid", "give what the server calls the device, such as 1-2", Rules.isBusID)
        let name = name(&mapping)
        if let server, let busid, !devices.insert([server, busid]).inserted {
            mapping.fault("busid", mapping.node("busid")?.line, "is imported twice", remedy: "keep one")
        }
        let isWrong = !mapping.faults.isEmpty
        faults += mapping.faults
        guard !isWrong, let server, let busid else { return nil }
        return ImportSpec(server: server, busid: busid, name: name)
    }

    private func text(
        _ key: String, _ mapping: inout YAMLMapping, _ what: String, _ remedy: String, _ fits: (String) -> Bool
    ) -> String? {
        guard let text = mapping.string(key) else {
            if mapping.node(key) == nil { mapping.fault(key, mapping.line, "is missing", remedy: remedy) }
            return nil
        }
        guard fits(text) else {
            mapping.fault(key, mapping.node(key)?.line, "\(quoted(text)) is no \(what)", remedy: remedy)
            return nil
        }
        return text
    }

    private mutating func name(_ mapping: inout YAMLMapping) -> String? {
        guard let name = mapping.string("name") else { return nil }
        let line = mapping.node("name")?.line
        if !Rules.isImportName(name) {
            mapping.fault("name", line, "\(quoted(name)) is none", remedy: "use letters, digits and ._-")
        } else if !names.insert(name).inserted {
            mapping.fault("name", line, "there are two imports \(quoted(name))", remedy: "rename one")
        }
        return name
    }

    private mutating func fault(_ message: String, _ line: Int?, remedy: String? = nil) {
        faults.append(ConfigurationFault(line: line, key: "imports", message: message, remedy: remedy))
    }
}
