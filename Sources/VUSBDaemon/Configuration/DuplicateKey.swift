// SPDX-License-Identifier: Apache-2.0

/// Finds where a key is given again: the parser only says in which mapping.
enum DuplicateKey {
    /// The line of the first key that was there before, at the indentation of the mapping that begins at `line` or
    /// after it; `line` itself where the text is written so that lines don't tell (`{a: 1, a: 2}`).
    static func line(of keys: Set<String>, after line: Int, in text: String) -> Int {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        var seen: [String: Int] = [:]
        var indentation: Int?
        for (index, content) in lines.enumerated().dropFirst(max(line, 1) - 1) {
            guard let key = key(content), keys.contains(key.name) else { continue }
            let depth = indentation ?? key.indentation
            indentation = depth
            guard key.indentation == depth else { continue }
            if seen.updateValue(index + 1, forKey: key.name) != nil { return index + 1 }
        }
        return line
    }

    /// What stands before the line's first colon, without its quotes.
    private static func key(_ line: Substring) -> (name: String, indentation: Int)? {
        let content = line.drop { $0 == " " }
        guard let colon = content.firstIndex(of: ":"), content.first != "#" else { return nil }
        let name = content[..<colon].filter { $0 != "\"" && $0 != "'" && $0 != " " }
        return (String(name), line.count - content.count)
    }
}
