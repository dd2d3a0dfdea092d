// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBTestSupport

@testable import VUSBFileSystem

/// The rows are those of Clock.md. Times are microseconds since the test's begin.
@Suite("A clock's timer")
struct ClockTimerTests {
    /// What a read returned; `after` is when, in microseconds since the test's begin.
    private enum Result: Equatable {
        case line(after: Int, missed: Int)
        case failed(Int32)
        case waits
    }

    private static let begin: UInt64 = 5_000_000_000

    private func at(_ microseconds: Int) -> UInt64 { Self.begin + UInt64(microseconds) * 1000 }

    private func running(every period: Int, from start: Int = 0) -> ClockTimer {
        var timer = ClockTimer()
        #expect(set(&timer, .run(period: UInt64(period) * 1000), at: start) == 0)
        return timer
    }

    private func result(_ answer: ClockTimer.Answer?) throws -> Result {
        switch answer {
        case nil: return .waits
        case .failed(let errno): return .failed(errno)
        case .line(let line):
            let numbers = line.text.dropLast().split(separator: " ")
            #expect(line.text.last == "\n" && numbers.count == 3 && numbers[1] == "-1")
            let time = try #require(UInt64(numbers[0]))
            return .line(after: Int((time - Self.begin) / 1000), missed: try #require(Int(numbers[2])))
        }
    }

    private func read(_ timer: inout ClockTimer, at time: Int, size: Int = 64) throws -> Result {
        try result(timer.read(size: size, at: at(time)))
    }

    private struct Next: Equatable {
        let key: PendingReplies.Key
        let result: Result
    }

    /// Who is answered now, of those who wait, and with what.
    private func next(_ timer: inout ClockTimer, at time: Int) throws -> Next? {
        guard let (waiter, answer) = timer.due(at: at(time)) else { return nil }
        timer.forget(waiter.key)
        timer.given(answer, at: at(time))
        return Next(key: waiter.key, result: try result(answer))
    }

    private func set(_ timer: inout ClockTimer, _ command: ClockCommand, at time: Int) -> Int32 {
        timer.set(command, at: at(time))
    }

    private func poll(_ timer: inout ClockTimer, at time: Int) -> UInt32 { timer.poll(at: at(time)) }

    private func notice(_ timer: inout ClockTimer, at time: Int) -> Bool { timer.takesNotice(at: at(time)) }

    private func wait(_ timer: inout ClockTimer, _ keys: PendingReplies.Key...) {
        for key in keys { timer.wait(ClockTimer.Waiter(key: key, size: 64)) }
    }

    @Test("K1: without a period a read is refused")
    func noPeriod() throws {
        var timer = ClockTimer()
        #expect(try read(&timer, at: 0) == .failed(EINVAL))
        #expect(timer.alarm == nil)
        #expect(set(&timer, .run(period: 1_000_000), at: 0) == 0)
        #expect(set(&timer, .stop, at: 5000) == 0)
        #expect(try read(&timer, at: 6000) == .failed(EINVAL))
    }

    @Test("K3: a read waits for the end of the next period, and the alarm is set for it only while somebody waits")
    func waits() throws {
        var timer = running(every: 1000)
        #expect(try read(&timer, at: 999) == .waits)
        #expect(timer.alarm == nil)
        wait(&timer, 1)
        #expect(timer.alarm == at(1000))
        #expect(try next(&timer, at: 999) == nil)
        #expect(try next(&timer, at: 1000) == Next(key: 1, result: .line(after: 1000, missed: 0)))
        #expect(timer.alarm == nil)
    }

    @Test("K3: who reads again and again misses nothing, and what is late makes nothing later")
    func noDrift() throws {
        var timer = running(every: 1000)
        for period in 1...1000 {
            // Up to 0.9 periods late.
            let late = period * 7 % 10 * 100
            #expect(try read(&timer, at: period * 1000 - 1) == .waits)
            #expect(try read(&timer, at: period * 1000 + late) == .line(after: period * 1000 + late, missed: 0))
        }
    }

    @Test("K4: a read behind ends that nobody read returns the last of them; the others were missed")
    func missed() throws {
        var timer = running(every: 1000)
        #expect(try read(&timer, at: 1500) == .line(after: 1500, missed: 0))
        #expect(try read(&timer, at: 5001) == .line(after: 5001, missed: 3))
        #expect(try read(&timer, at: 5999) == .waits)
        #expect(try read(&timer, at: 6000) == .line(after: 6000, missed: 0))
    }

    @Test("K4: the missed and the lines together are the periods that have ended")
    func sum() throws {
        var timer = running(every: 700)
        var time = 0
        var sum = 0
        for step in 0..<2000 {
            time += step * 37 % 1900
            if case .line(_, let missed) = try read(&timer, at: time) { sum += missed + 1 }
            #expect(sum == time / 700)
        }
    }

    @Test("K5: a host that is late by more than a period answers who waits with the last end")
    func late() throws {
        var timer = running(every: 1000)
        wait(&timer, 1)
        #expect(try next(&timer, at: 3100)?.result == .line(after: 3100, missed: 2))
        wait(&timer, 2)
        #expect(timer.alarm == at(4000))
    }

    @Test("K6: another period begins another grid, for who waits as well; what wasn't read is forgotten")
    func another() throws {
        var timer = running(every: 60_000_000)
        wait(&timer, 1)
        #expect(set(&timer, .run(period: 500_000), at: 100) == 0)
        #expect(timer.alarm == at(600))
        #expect(try next(&timer, at: 600)?.result == .line(after: 600, missed: 0))
        #expect(set(&timer, .run(period: 500_000), at: 5000) == 0)
        #expect(try read(&timer, at: 5499) == .waits)
        #expect(try read(&timer, at: 5500) == .line(after: 5500, missed: 0))
    }

    @Test("K7: a stop refuses who waits")
    func stop() throws {
        var timer = running(every: 1000)
        wait(&timer, 1, 2)
        #expect(set(&timer, .stop, at: 10) == 0)
        #expect(timer.alarm == nil)
        for key in [1, 2] as [PendingReplies.Key] {
            #expect(try next(&timer, at: 10) == Next(key: key, result: .failed(EINVAL)))
        }
        #expect(try next(&timer, at: 2000) == nil)
    }

    @Test("K9: a poller is told of the next end, once; it's readable until a read has taken the end")
    func poll() throws {
        let readable = PollEvents.readable | PollEvents.writable
        var timer = running(every: 1000)
        #expect(poll(&timer, at: 10) == PollEvents.writable)
        #expect(timer.alarm == at(1000))
        #expect(!notice(&timer, at: 999))
        #expect(notice(&timer, at: 1000))
        #expect(!notice(&timer, at: 1000))
        #expect(timer.alarm == nil)
        #expect(poll(&timer, at: 1001) == readable)
        #expect(try read(&timer, at: 1002) == .line(after: 1002, missed: 0))
        #expect(poll(&timer, at: 1003) == PollEvents.writable)
        #expect(timer.alarm == at(2000))
    }

    @Test("K9: who was told that there is an end is told of the next one, too: epoll(7) by edges asks no more")
    func edges() throws {
        var timer = running(every: 1000)
        #expect(poll(&timer, at: 1500) == PollEvents.readable | PollEvents.writable)
        #expect(timer.alarm == at(2000))
        #expect(!notice(&timer, at: 1999))
        #expect(try read(&timer, at: 1999) == .line(after: 1999, missed: 0))
        #expect(notice(&timer, at: 2000))
        #expect(timer.alarm == nil)
    }

    @Test("K9: a poller for whom a read was too fast is told of the end after it")
    func pollerTooLate() throws {
        var timer = running(every: 1000)
        #expect(poll(&timer, at: 10) == PollEvents.writable)
        wait(&timer, 1)
        #expect(try next(&timer, at: 1000)?.key == 1)
        #expect(!notice(&timer, at: 1000))
        #expect(timer.alarm == at(2000))
        #expect(notice(&timer, at: 2000))
    }

    @Test("K9: a poller is told of another grid's first end; a stop leaves it waiting for that")
    func pollerOfAnotherGrid() {
        var timer = running(every: 60_000_000)
        #expect(poll(&timer, at: 10) == PollEvents.writable)
        #expect(set(&timer, .run(period: 500_000), at: 20) == 0)
        #expect(timer.alarm == at(520))
        #expect(set(&timer, .stop, at: 30) == 0)
        #expect(timer.alarm == nil)
        #expect(!notice(&timer, at: 5000))
        #expect(set(&timer, .run(period: 500_000), at: 5000) == 0)
        #expect(notice(&timer, at: 5500))
    }

    @Test("K9: who polls before there is a period is told of the first end")
    func pollBeforeWrite() {
        var timer = ClockTimer()
        #expect(poll(&timer, at: 0) == PollEvents.writable)
        #expect(timer.alarm == nil)
        #expect(set(&timer, .run(period: 100_000), at: 50) == 0)
        #expect(timer.alarm == at(150))
        #expect(notice(&timer, at: 150))
    }

    @Test("K10: a read too small for its line is refused at once, and takes nothing")
    func small() throws {
        var timer = running(every: 1000)
        let size = ClockLine(time: at(1), missed: 0).count
        #expect(try read(&timer, at: 1, size: size - 1) == .failed(EINVAL))
        #expect(try read(&timer, at: 1, size: size) == .waits)
        // Ten missed ones make the line longer.
        #expect(try read(&timer, at: 11_000, size: size) == .failed(EINVAL))
        timer.wait(ClockTimer.Waiter(key: 1, size: size))
        #expect(try next(&timer, at: 11_000)?.result == .failed(EINVAL))
        #expect(try read(&timer, at: 11_000, size: size + 1) == .line(after: 11_000, missed: 10))
    }

    @Test("K11: who is forgotten takes nothing, and needs no alarm")
    func forgotten() throws {
        var timer = running(every: 1000)
        wait(&timer, 1)
        timer.forget(1)
        #expect(timer.alarm == nil)
        #expect(try next(&timer, at: 1000) == nil)
        #expect(try read(&timer, at: 1000) == .line(after: 1000, missed: 0))
    }

    @Test("K12: who is found to be interrupted when it is due takes nothing: the end is for the next who waits")
    func interruptedWhenDue() throws {
        var timer = running(every: 1000)
        wait(&timer, 1, 2)
        #expect(timer.due(at: at(999)) == nil)
        #expect(timer.due(at: at(1000))?.waiter.key == 1)
        timer.forget(1)
        #expect(try next(&timer, at: 1000) == Next(key: 2, result: .line(after: 1000, missed: 0)))
    }

    @Test("K13: reads that wait get an end each, in the order in which they came")
    func order() throws {
        var timer = running(every: 1000)
        wait(&timer, 7, 8, 9)
        for (number, key) in ([7, 8, 9] as [PendingReplies.Key]).enumerated() {
            let end = (number + 1) * 1000
            #expect(timer.alarm == at(end))
            #expect(try next(&timer, at: end) == Next(key: key, result: .line(after: end, missed: 0)))
            #expect(try next(&timer, at: end) == nil)
        }
        #expect(timer.alarm == nil)
    }

    @Test("K14: when the guest is unloaded, whoever waits is told, and so is whoever comes")
    func gone() throws {
        var timer = running(every: 1000)
        wait(&timer, 1)
        _ = timer.poll(at: at(0))
        timer.end()
        #expect(try next(&timer, at: 1)?.result == .failed(ENODEV))
        #expect(notice(&timer, at: 1))
        #expect(try read(&timer, at: 5000) == .failed(ENODEV))
        #expect(set(&timer, .run(period: 1_000_000), at: 0) == ENODEV)
        #expect(poll(&timer, at: 5000) & PollEvents.gone == PollEvents.gone)
        #expect(timer.alarm == nil)
    }

    @Test("a time from before the write ends nothing")
    func before() throws {
        var timer = running(every: 1000, from: 100)
        #expect(try read(&timer, at: 0) == .waits)
        #expect(try read(&timer, at: 1100) == .line(after: 1100, missed: 0))
        #expect(try read(&timer, at: 600) == .waits)
    }
}
