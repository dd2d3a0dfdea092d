// SPDX-License-Identifier: Apache-2.0

/// Lets the options that all commands have also come before the command: `vusbctl --json status`.
enum Arguments {
    static func reordered(_ arguments: [String]) -> [String] {
        var rest = arguments[...]
        var moved: [String] = []
        while let first = rest.first {
            if first == "--json" || first.hasPrefix("--socket=") {
                moved.append(rest.removeFirst())
            } else if first == "--socket", rest.count > 1 {
                moved += [rest.removeFirst(), rest.removeFirst()]
            } else {
                break
            }
        }
        guard !moved.isEmpty, !rest.isEmpty else { return arguments }
        // What follows "--" is never an option.
        let end = rest.firstIndex(of: "--") ?? rest.endIndex
        return Array(rest[..<end]) + moved + Array(rest[end...])
    }
}
