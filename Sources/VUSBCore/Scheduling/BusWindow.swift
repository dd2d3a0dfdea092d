// SPDX-License-Identifier: Apache-2.0

/// How much a bus may have in flight while guests of different priority share it, and the times that follow.
package struct BusWindow: Sendable, Equatable {
    /// Bytes in flight. Small enough that it's through in some milliseconds, large enough for several URBs, so that the
    /// bus has the next when one ends.
    package var bytes: Int
    /// What the bus carries in bulk, bytes a second. Where it carries less, the scheduler finds that out (`BusRate`).
    package var bytesPerSecond: Int
    /// Nanoseconds in which a URB that is held back gains one priority.
    package var ageingStep: UInt64

    package init(bytes: Int, bytesPerSecond: Int, ageingStep: UInt64 = 10_000_000) {
        self.bytes = max(1, bytes)
        self.bytesPerSecond = max(1, bytesPerSecond)
        self.ageingStep = max(1, ageingStep)
    }

    /// For a bus of that speed: 1.3 to 4 ms of what it carries.
    package init(_ speed: DeviceSpeed) {
        switch speed {
        case .low, .full: self.init(bytes: 4 << 10, bytesPerSecond: 1_000_000)
        case .high: self.init(bytes: 64 << 10, bytesPerSecond: 40_000_000)
        case .super: self.init(bytes: 512 << 10, bytesPerSecond: 400_000_000)
        case .superPlus: self.init(bytes: 1 << 20, bytesPerSecond: 800_000_000)
        }
    }

    /// Whether `length` more bytes go beside `inFlight`. What is larger than the window goes alone.
    func hasRoom(for length: Int, beside inFlight: Int) -> Bool { inFlight == 0 || inFlight + length <= bytes }
}
