// SPDX-License-Identifier: Apache-2.0

/// Names one URB of one device: a slot's index and the generation of its use. A token outlives its URB harmlessly:
/// the next URB in the same slot has another generation, so a late cancel misses.
package struct URBToken: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }

    package init(index: Int, generation: UInt32) {
        rawValue = UInt64(generation) << 32 | UInt64(UInt32(truncatingIfNeeded: index))
    }

    /// The token of a URB that no device has accepted yet. Generation 0 is never given out.
    package static let none = URBToken(rawValue: 0)

    package var index: Int { Int(UInt32(truncatingIfNeeded: rawValue)) }
    package var generation: UInt32 { UInt32(rawValue >> 32) }
}
