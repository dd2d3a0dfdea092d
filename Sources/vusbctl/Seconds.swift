// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// A duration as people write it: `500ms`, `5s`, `2m`, `1h`, or a number of seconds.
struct Seconds: Sendable {
    var value: Double

    private static let units = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)]

    /// For an option: takes what is in the range.
    static func within(_ range: ClosedRange<Double>) -> @Sendable (String) throws -> Seconds {
        { argument in
            let text = "a time from \(written(range.lowerBound)) to \(written(range.upperBound)), such as 5s"
            guard let value = value(of: argument), range.contains(value) else {
                throw ValidationError("it must be " + text)
            }
            return Seconds(value: value)
        }
    }

    private static func value(of argument: String) -> Double? {
        let unit = units.first { argument.hasSuffix($0.0) }
        let number = argument.dropLast(unit?.0.count ?? 0)
        guard number.utf8.allSatisfy({ "0123456789.".utf8.contains($0) }), let amount = Double(number) else {
            return nil
        }
        return amount * (unit?.1 ?? 1)
    }

    /// In the greatest unit of which there is a whole number.
    private static func written(_ seconds: Double) -> String {
        let unit = units.last { seconds >= $0.1 && (seconds / $0.1).rounded() == seconds / $0.1 } ?? units[1]
        return "\(Int(seconds / unit.1))\(unit.0)"
    }
}
