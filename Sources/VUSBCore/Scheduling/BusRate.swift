// SPDX-License-Identifier: Apache-2.0

/// What a bus carries, as its fastest transfers show: tells what waits for the bus from what waits for its device.
struct BusRate {
    private let window: BusWindow
    /// Bytes a second, at most what the window's owner said.
    private var bytesPerSecond: Int

    /// Nanoseconds: a window isn't held for longer, however slow the bus seems to be.
    private static let longestParkingTime = 1e8

    init(_ window: BusWindow) {
        self.window = window
        bytesPerSecond = window.bytesPerSecond
    }

    /// Shorter ones than this say more of the way through the host than of the bus.
    var shortestSample: Int { window.bytes / 8 }

    /// A transfer moved all of its bytes in `time` nanoseconds. A faster one counts at once; slower ones, which may be
    /// their devices' fault or the others' on the bus, only if there is no faster one for a while.
    mutating func add(_ length: Int, in time: UInt64) {
        guard length >= shortestSample else { return }
        let sample = Int(min(Double(length) * 1e9 / Double(max(time, 1)), Double(window.bytesPerSecond)))
        bytesPerSecond = max(sample, bytesPerSecond - bytesPerSecond / 16, 1)
    }

    /// Nanoseconds after which a URB that is still in flight waits for its device and not for the bus: twice what the
    /// bus takes for a window, or for the URB where that is more, and a millisecond for all that isn't the wire.
    func parkingTime(_ length: Int) -> UInt64 {
        let window = min(2e9 * Double(window.bytes) / Double(bytesPerSecond), Self.longestParkingTime)
        let count = max(1, Double(length) / Double(self.window.bytes))
        return UInt64(window * count) + 1_000_000
    }
}
