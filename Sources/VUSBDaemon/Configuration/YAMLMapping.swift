// SPDX-License-Identifier: Apache-2.0

internal import Yams

/// One mapping of vusb.yaml while it's read: looks keys up, checks their types, and writes down what is wrong with
/// line and key.
struct YAMLMapping {
    /// Such as `guests.web1`; empty at the top.
    let path: String
    let line: Int?
    private let pairs: [(name: String, line: Int?, value: Node)]
    private(set) var faults: [ConfigurationFault] = []

    init(_ node: Node, path: String) {
        self.path = path
        line = node.mark?.line
        var pairs: [(name: String, line: Int?, value: Node)] = []
        switch node {
        case .mapping(let mapping):
            for (key, value) in mapping { pairs.append((key.string ?? "", key.mark?.line, value)) }
        case .scalar(let scalar) where Self.isNull(scalar): break
        default:
            faults.append(
                ConfigurationFault(
                    line: line,
                    key: path.isEmpty ? nil : path,
                    message: "must have keys with values, not a \(Self.kind(node))",
                    remedy: path.isEmpty ? "begin it with a key such as mount:" : "write KEY: VALUE, one a line"
                ))
        }
        self.pairs = pairs
    }

    var names: [(name: String, line: Int?)] { pairs.map { ($0.name, $0.line) } }

    func key(_ name: String) -> String { path.isEmpty ? name : path + "." + name }

    /// The value's node; nil where the key is missing or has no value.
    func node(_ name: String) -> (value: Node, line: Int?)? {
        guard let pair = pairs.last(where: { $0.name == name }) else { return nil }
        if case .scalar(let scalar) = pair.value, Self.isNull(scalar) { return nil }
        return (pair.value, pair.line)
    }

    // MARK: - Checks

    /// Every key must be known; an unknown one gets the nearest known one as a suggestion.
    mutating func checkKeys(_ known: [String]) {
        for pair in pairs where !known.contains(pair.name) {
            let nearest = Spelling.nearest(to: pair.name, among: known)
            fault(
                pair.name,
                pair.line,
                "unknown key",
                remedy: nearest.map { "did you mean \($0)?" } ?? "known keys are \(known.joined(separator: ", "))"
            )
        }
    }

    mutating func fault(_ name: String, _ line: Int?, _ message: String, remedy: String? = nil) {
        faults.append(ConfigurationFault(line: line, key: key(name), message: message, remedy: remedy))
    }

    mutating func string(_ name: String) -> String? {
        guard let (value, line) = node(name) else { return nil }
        guard case .scalar(let scalar) = value else {
            fault(name, line, "must be a text, not a \(Self.kind(value))")
            return nil
        }
        return scalar.string
    }

    mutating func boolean(_ name: String) -> Bool? {
        guard let (value, line) = node(name) else { return nil }
        guard let boolean = value.bool else {
            fault(name, line, "must be true or false, not \(Self.shown(value))")
            return nil
        }
        return boolean
    }

    /// A time as people write it: `500ms`, `5s`, `2m`, or a number of seconds.
    mutating func seconds(_ name: String, in range: ClosedRange<Double>) -> Double? {
        guard let text = string(name) else { return nil }
        if let value = Self.seconds(text), range.contains(value) { return value }
        fault(
            name, node(name)?.line, "\(quoted(text)) is no time here",
            remedy: "write as 5s or 500ms, \(range.lowerBound) to \(range.upperBound) seconds")
        return nil
    }

    /// Written as `off`, which YAML may take for a Boolean.
    mutating func isOff(_ name: String) -> Bool {
        guard case .scalar(let scalar)? = node(name)?.value else { return false }
        return scalar.string == "off"
    }

    static func seconds(_ text: String) -> Double? {
        let unit = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)].first { text.hasSuffix($0.0) }
        let number = text.dropLast(unit?.0.count ?? 0)
        guard number.utf8.allSatisfy({ "0123456789.".utf8.contains($0) }), let amount = Double(number) else {
            return nil
        }
        return amount * (unit?.1 ?? 1)
    }

    mutating func integer(_ name: String, in range: ClosedRange<Int>) -> Int? {
        guard let (value, line) = node(name) else { return nil }
        guard let integer = value.int, range.contains(integer) else {
            fault(
                name, line, "must be a number from \(range.lowerBound) to \(range.upperBound), not \(Self.shown(value))"
            )
            return nil
        }
        return integer
    }

    /// An absolute path.
    mutating func path(_ name: String) -> String? {
        guard let text = string(name) else { return nil }
        guard text.hasPrefix("/"), !text.utf8.contains(0) else {
            fault(name, node(name)?.line, "must be an absolute path, not \(quoted(text))")
            return nil
        }
        return text
    }

    mutating func strings(_ name: String) -> [(text: String, line: Int?, index: Int)]? {
        guard let (value, line) = node(name) else { return nil }
        guard case .sequence(let sequence) = value else {
            fault(name, line, "must be a list, not a \(Self.kind(value))", remedy: "write [A, B], or one '- A' a line")
            return nil
        }
        var texts: [(text: String, line: Int?, index: Int)] = []
        for (index, item) in sequence.enumerated() {
            if case .scalar(let scalar) = item {
                texts.append((scalar.string, item.mark?.line ?? line, index))
            } else {
                fault(name, item.mark?.line ?? line, "an entry must be a text, not a \(Self.kind(item))")
            }
        }
        return texts
    }

    // MARK: - Nodes

    private static func isNull(_ scalar: Node.Scalar) -> Bool {
        scalar.style == .plain && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    private static func kind(_ node: Node) -> String {
        switch node {
        case .scalar: "text"
        case .mapping: "mapping"
        case .sequence: "list"
        case .alias: "alias"
        }
    }

    private static func shown(_ node: Node) -> String {
        if case .scalar(let scalar) = node { quoted(scalar.string) } else { "a \(kind(node))" }
    }
}

/// Suggestions for what was mistyped.
enum Spelling {
    /// The known word with the fewest changes, if they are few for its length.
    static func nearest(to word: String, among known: [String]) -> String? {
        let written = Array(word.lowercased().prefix(64))
        let best = known.map { ($0, distance(written, Array($0))) }.min { $0.1 < $1.1 }
        guard let (name, changes) = best, changes <= max(1, name.count / 3) else { return nil }
        return name
    }

    /// Levenshtein's: insertions, deletions and replacements.
    static func distance(_ left: [Character], _ right: [Character]) -> Int {
        var row = Array(0...right.count)
        for (i, a) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, b) in right.enumerated() {
                let cost = min(row[j] + 1, row[j + 1] + 1, diagonal + (a == b ? 0 : 1))
                diagonal = row[j + 1]
                row[j + 1] = cost
            }
        }
        return row[right.count]
    }
}
