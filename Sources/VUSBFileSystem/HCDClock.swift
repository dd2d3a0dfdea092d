// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Synchronization

/// What the clock tells the time.
protocol HCDClockFile: AnyObject, Sendable {
    /// Answers whoever has waited long enough; returns when the next one will have (nanoseconds), `.max` for nobody.
    func timeReached(_ now: UInt64) -> UInt64
}

/// One timer for all reads of all channels. It isn't set for each read: only one that has to be answered before all
/// others sets it, and when it rings it looks who waits still. So reads that get an answer in time cost nothing.
///
/// Concurrency model: any thread sets it, a queue of libdispatch rings. The files are in one `Mutex`; when it rings
/// next is in another, which orders the settings of the timer: the one call out that is made under it, because the last
/// setting must be the earliest; it doesn't wait.
final class HCDClock: @unchecked Sendable {
    // SAFETY: libdispatch lets any thread set and cancel a timer.
    private let files = Mutex<[UInt64: any HCDClockFile]>([:])
    private let next = Mutex(UInt64.max)
    private let queue = DispatchQueue(label: "vusb.channels")
    private let timer: any DispatchSourceTimer

    init() {
        timer = DispatchSource.makeTimerSource(queue: queue)
        timer.setEventHandler { [weak self] in self?.ring() }
        timer.activate()
    }

    deinit { timer.cancel() }

    /// Nanoseconds of the clock that deadlines are in.
    static var now: UInt64 { DispatchTime.now().uptimeNanoseconds }

    func add(_ file: any HCDClockFile, _ id: FileHandleID) { files.withLock { $0[id.rawValue] = file } }

    func remove(_ id: FileHandleID) { files.withLock { $0[id.rawValue] = nil } }

    /// Returns when it isn't ringing: a file that was removed is told nothing more. Not to be called from a file.
    func settle() { queue.sync {} }

    /// Rings at `deadline` at the latest.
    func ring(by deadline: UInt64) {
        next.withLock { next in
            guard deadline < next else { return }
            next = deadline
            timer.schedule(deadline: DispatchTime(uptimeNanoseconds: deadline), leeway: .milliseconds(1))
        }
    }

    private func ring() {
        next.withLock { $0 = .max }
        let files = files.withLock { Array($0.values) }
        let now = Self.now
        var earliest = UInt64.max
        for file in files { earliest = min(earliest, file.timeReached(now)) }
        if earliest < .max { ring(by: earliest) }
    }
}
