// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// The command that was probably meant, where there is none of that name.
enum Suggestion {
    /// How many letters may be wrong, missing, too many or exchanged with their neighbour.
    private static let mostFaults = 2

    /// Nil where nothing is near, or something else is wrong.
    static func text(for arguments: [String], of root: any ParsableCommand.Type) -> String? {
        var commands = root.configuration.subcommands
        for word in arguments {
            guard !commands.isEmpty, !word.hasPrefix("-") else { return nil }
            if let found = commands.first(where: { $0._commandName == word }) {
                commands = found.configuration.subcommands
                continue
            }
            let near = commands.map { ($0._commandName, faults(word, $0._commandName)) }.min { $0.1 < $1.1 }
            return near.flatMap { $0.1 <= mostFaults && $0.1 < word.utf8.count ? "did you mean '\($0.0)'?" : nil }
        }
        return nil
    }

    /// The restricted edit distance with exchanges.
    private static func faults(_ first: String, _ second: String) -> Int {
        let (from, to) = (Array(first.utf8.prefix(32)), Array(second.utf8))
        var rows = [Array(0...to.count)]
        for row in from.indices {
            var next = [row + 1]
            for column in to.indices {
                let isSame = from[row] == to[column]
                var best = min(rows[row][column + 1] + 1, next[column] + 1, rows[row][column] + (isSame ? 0 : 1))
                if row > 0, column > 0, from[row] == to[column - 1], from[row - 1] == to[column] {
                    best = min(best, rows[row - 1][column - 1] + 1)
                }
                next.append(best)
            }
            rows.append(next)
        }
        return rows[from.count][to.count]
    }
}
