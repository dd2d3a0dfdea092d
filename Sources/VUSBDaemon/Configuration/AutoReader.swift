// SPDX-License-Identifier: Apache-2.0

/// Reads `auto` of vusb.yaml: by what mode `auto` chooses between a controller and the module. What it doesn't name keeps
/// its default.
struct AutoReader {
    private static let keys = ["window", "dear", "cheap"]
    private static let windows = 1.0...86400.0
    private static let costs = 0.0...3600.0

    private var mapping: YAMLMapping
    var faults: [ConfigurationFault] { mapping.faults }

    init(_ mapping: YAMLMapping) { self.mapping = mapping }

    mutating func read() -> ModeMeter.Rule {
        mapping.checkKeys(Self.keys)
        var rule = ModeMeter.Rule()
        if let window = mapping.seconds("window", in: Self.windows) { rule.window = .seconds(window) }
        if let dear = mapping.seconds("dear", in: Self.costs) { rule.dear = .seconds(dear) }
        if let cheap = mapping.seconds("cheap", in: Self.costs) { rule.cheap = .seconds(cheap) }
        if rule.cheap > rule.dear {
            mapping.fault(
                "cheap", mapping.node("cheap")?.line, "is more than `dear`, \(rule.dear.inSeconds) s",
                remedy: "a guest would be moved to and fro; make it less")
        }
        return rule
    }
}
