// SPDX-License-Identifier: Apache-2.0

/// Counts what happened within a window that slides by eighths of its length: in constant time and memory, however
/// many there are. It never counts one that is older than the window, and may miss some of its oldest eighth.
struct EventCount {
    private static let sliceCount: UInt64 = 8

    private var slices = SIMD8<UInt32>()
    /// Which slice since the clock's zero was the last.
    private var last: UInt64 = 0
    /// When the first came after a window without any.
    private var beganAt: UInt64 = 0

    /// Forgets all that it has counted.
    mutating func clear() { slices = SIMD8() }

    /// Counts one.
    /// - Parameter now: nanoseconds; one that goes back counts as the latest seen.
    /// - Returns: whether it is the one too many. How many there are within the window is `count` then.
    mutating func add(at now: UInt64, _ limit: EventLimit) -> Bool {
        guard !limit.isOff else { return false }
        slide(to: now / max(1, limit.window.clockNanoseconds / Self.sliceCount))
        if count == 0 { beganAt = now }
        let index = Int(last % Self.sliceCount)
        slices[index] = slices[index] == .max ? .max : slices[index] + 1
        return count >= limit.count && now >= beganAt + limit.lasting.clockNanoseconds
    }

    var count: Int {
        var sum = 0
        for index in 0..<Int(Self.sliceCount) { sum += Int(slices[index]) }
        return sum
    }

    private mutating func slide(to slice: UInt64) {
        guard slice > last else { return }
        if slice - last >= Self.sliceCount {
            clear()
        } else {
            for passed in (last + 1)...slice { slices[Int(passed % Self.sliceCount)] = 0 }
        }
        last = slice
    }
}
