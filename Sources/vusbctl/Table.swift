// SPDX-License-Identifier: Apache-2.0

/// Columns for people: aligned, without colour; no line for an empty table but its head.
struct Table {
    private var rows: [[String]]

    init(_ head: String...) { rows = [head] }

    /// An absent value is a dash.
    mutating func add(_ cells: String?...) {
        rows.append(cells.map { cell in cell.map { $0.isEmpty ? "-" : Output.harmless($0) } ?? "-" })
    }

    var text: String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let padded = zip(row, widths).map { cell, width in
                cell + String(repeating: " ", count: width - cell.count)
            }
            return Self.trimmed(padded.joined(separator: "  "))
        }.joined(separator: "\n")
    }

    private static func trimmed(_ line: String) -> String {
        var line = line[...]
        while line.last == " " { line.removeLast() }
        return String(line)
    }
}
