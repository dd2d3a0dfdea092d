// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBSystem

/// What the clock wakes.
protocol Paced: AnyObject, Sendable {
    /// Called on the clock's thread, with no lock held.
    func timeReached()
}

/// The (micro)frame clock of all emulated devices: wakes a device when an interval of one of its endpoints is over.
///
/// Concurrency model: any thread schedules. One thread, started with the first alarm and ended once there was none for
/// a second, waits for the earliest and calls the device. The heap is behind one `Mutex`, which is held across no
/// call. Lock order: none, it is a leaf.
final class PaceClock: Sendable {
    fileprivate struct Alarm {
        let time: UInt64
        let device: any Paced
    }

    fileprivate struct State {
        /// A binary heap, the earliest first.
        var heap: [Alarm] = []
        var isRunning = false
    }

    private static let idleLimit: UInt64 = 1_000_000_000
    private let state = Mutex(State())
    private let condition = WaitCondition()

    /// Has `device` woken at `time` (nanoseconds of the monotonic clock).
    func schedule(_ device: any Paced, at time: UInt64) {
        let (isEarliest, isRunning) = state.withLock { state in
            state.push(Alarm(time: time, device: device))
            defer { state.isRunning = true }
            return (state.heap.first?.time == time, state.isRunning)
        }
        if !isRunning {
            startThread()
        } else if isEarliest {
            condition.signal()
        }
    }

    private func startThread() {
        if DetachedThread.start(name: "vusb-emu-clock", body: { self.run() }) == 0 { return }
        // No thread to be had: what waits is served now, unpaced, rather than never.
        while let alarm = state.withLock({ $0.popOrStop() }) { alarm.device.timeReached() }
    }

    private func run() {
        RealTime.enter()
        while true {
            let now = monotonicNow()
            let (due, next) = state.withLock { $0.takeDue(now) }
            if let due {
                due.device.timeReached()
            } else if !condition.wait(until: next ?? now + Self.idleLimit), next == nil {
                if state.withLock({ $0.stopIfIdle() }) { return }
            }
        }
    }
}

extension PaceClock.State {
    fileprivate mutating func push(_ alarm: PaceClock.Alarm) {
        heap.append(alarm)
        var child = heap.count - 1
        while child > 0, heap[child].time < heap[(child - 1) / 2].time {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// The earliest alarm where it's due, else when it will be.
    fileprivate mutating func takeDue(_ now: UInt64) -> (PaceClock.Alarm?, UInt64?) {
        guard let first = heap.first else { return (nil, nil) }
        return first.time <= now ? (pop(), nil) : (nil, first.time)
    }

    fileprivate mutating func stopIfIdle() -> Bool {
        if heap.isEmpty { isRunning = false }
        return heap.isEmpty
    }

    fileprivate mutating func popOrStop() -> PaceClock.Alarm? { stopIfIdle() ? nil : pop() }

    private mutating func pop() -> PaceClock.Alarm? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        guard !heap.isEmpty else { return first }
        heap[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in 2 * parent + 1..<2 * parent + 3 where child < heap.count {
                if heap[child].time < heap[least].time { least = child }
            }
            if least == parent { return first }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
