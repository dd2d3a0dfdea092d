// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// An alarm's receiver that notes when it rang.
private final class Receiver: AlarmReceiver {
    let rings = Inbox<UInt64>()
    func alarmRang() { rings.append(AlarmThread.shared.now()) }
}

@Suite("Deadlines in order")
struct DeadlineHeapTests {
    private func due(_ heap: inout DeadlineHeap, _ now: UInt64) -> Receiver? { heap.takeDue(now) as? Receiver }

    @Test("they come out in order, whatever the order in which they were set, and none before its time")
    func order() {
        var heap = DeadlineHeap()
        let receivers = (0..<200).map { _ in Receiver() }
        // 89 and 200 have no common divisor: each time comes once.
        for (index, receiver) in receivers.enumerated() { heap.set(receiver, at: UInt64(index * 89 % 200)) }
        for time in 0..<200 as Range<UInt64> {
            #expect(heap.first == time)
            if time > 0 { #expect(due(&heap, time - 1) == nil) }
            let index = receivers.indices.first { UInt64($0 * 89 % 200) == time }
            #expect(due(&heap, time) === index.map { receivers[$0] })
        }
        #expect(heap.count == 0)
        #expect(due(&heap, .max) == nil)
    }

    @Test("a receiver has one alarm, the earliest that was set")
    func earliest() {
        var heap = DeadlineHeap()
        let receiver = Receiver()
        let other = Receiver()
        heap.set(receiver, at: 50)
        heap.set(other, at: 30)
        heap.set(receiver, at: 20)
        heap.set(receiver, at: 40)
        #expect(heap.count == 2)
        #expect(heap.first == 20)
        #expect(due(&heap, 100) === receiver)
        #expect(due(&heap, 100) === other)
        #expect(due(&heap, 100) == nil)
    }

    @Test("what is removed doesn't come, and leaves the others in order")
    func remove() {
        var heap = DeadlineHeap()
        let receivers = (0..<100).map { _ in Receiver() }
        for (index, receiver) in receivers.enumerated() { heap.set(receiver, at: UInt64(index * 37 % 100)) }
        for (index, receiver) in receivers.enumerated() where index % 3 != 0 { heap.remove(receiver) }
        heap.remove(receivers[1])
        let expected = receivers.indices.filter { $0 % 3 == 0 }.sorted { $0 * 37 % 100 < $1 * 37 % 100 }
        #expect(heap.count == expected.count)
        for index in expected { #expect(due(&heap, 100) === receivers[index]) }
        #expect(heap.first == nil)
    }
}

/// In real time, all the same without waiting for any time to be over but an alarm's.
@Suite("The clock's thread")
struct ClockThreadTests {
    private let clock = ClockThread.shared

    @Test("an alarm rings once, not before its time")
    func rings() async throws {
        #expect(clock.start())
        let receiver = Receiver()
        let time = clock.now() + 2_000_000
        clock.wake(receiver, at: time)
        let rang = try #require(await receiver.rings.wait(for: 1).first)
        #expect(rang >= time)
        let last = Receiver()
        clock.wake(last, at: clock.now())
        await last.rings.wait(for: 1)
        clock.settle()
        #expect(receiver.rings.count == 1)
    }

    @Test("one set for earlier rings first, while the thread waits for a later one")
    func earlier() async throws {
        #expect(clock.start())
        let late = Receiver()
        let early = Receiver()
        clock.wake(late, at: clock.now() + 60_000_000_000)
        clock.wake(early, at: clock.now() + 1_000_000)
        #expect(await early.rings.wait(for: 1).count == 1)
        #expect(late.rings.count == 0)
        clock.wake(late, at: clock.now() + 1_000_000)
        #expect(await late.rings.wait(for: 1).count == 1)
    }

    @Test("K17: one that is forgotten doesn't ring")
    func forgotten() async {
        #expect(clock.start())
        let gone = Receiver()
        let next = Receiver()
        let time = clock.now() + 3_000_000
        clock.wake(gone, at: time)
        clock.wake(next, at: time + 1)
        clock.forget(gone)
        clock.forget(gone)
        await next.rings.wait(for: 1)
        clock.settle()
        #expect(gone.rings.count == 0)
    }

    @Test("a receiver that sets its next alarm each time rings on, and a thousand of them don't lose one another's")
    func many() async {
        final class Periodic: AlarmReceiver {
            let left = Atomic(5)
            let ended: Inbox<Int>
            init(_ ended: Inbox<Int>) { self.ended = ended }
            func alarmRang() {
                if left.wrappingSubtract(1, ordering: .relaxed).newValue == 0 { return ended.append(1) }
                ClockThread.shared.wake(self, at: ClockThread.shared.now() + 1_000_000)
            }
        }
        #expect(clock.start())
        let ended = Inbox<Int>()
        await Threads.run(4) { number in
            for index in 0..<250 {
                ClockThread.shared.wake(
                    Periodic(ended), at: ClockThread.shared.now() + UInt64((index * 4 + number) * 1000))
            }
        }
        #expect(await ended.wait(for: 1000).count == 1000)
    }

    @Test("settle waits for an alarm that is ringing")
    func settle() async {
        final class Slow: AlarmReceiver {
            let isRinging = Inbox<Int>()
            let mayEnd = Atomic(false)
            let hasEnded = Atomic(false)
            func alarmRang() {
                isRinging.append(1)
                while !mayEnd.load(ordering: .acquiring) { Threads.yield() }
                hasEnded.store(true, ordering: .releasing)
            }
        }
        #expect(clock.start())
        let slow = Slow()
        clock.wake(slow, at: clock.now())
        await slow.isRinging.wait(for: 1)
        slow.mayEnd.store(true, ordering: .releasing)
        clock.settle()
        let hasEnded = slow.hasEnded.load(ordering: .acquiring)
        #expect(hasEnded)
    }
}
