// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// A whole number that an option takes.
enum Number {
    static func within(_ range: ClosedRange<Int>) -> @Sendable (String) throws -> Int {
        { argument in
            guard let value = Int(argument), range.contains(value) else {
                throw ValidationError("it must be a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return value
        }
    }
}
