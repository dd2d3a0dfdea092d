// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Scheduling.md: whose turn it is", .timeLimit(.minutes(1)))
struct SchedulingTests {
    @Test("All of one priority: nothing is held back, nothing is counted, no alarm is set")
    func equals() throws {
        let bus = BusRig()
        let guests = try [bus.guest(10), bus.guest(10)]
        for guest in guests { for _ in 0..<16 { guest.rig.submitIn(count: 64.kibibytes) } }
        #expect(guests.map(\.atBackend.count) == [16, 16])
        #expect(bus.scheduler.bytesInWindow == 0)
        #expect(!bus.clock.isSet)
        for guest in guests { guest.rig.backend.completeAll(.success) }
        bus.expectAtRest(guests)
    }

    @Test("A more important guest is there: the others keep to the window, and go on as theirs ends")
    func window() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let high = try bus.guest(90)
        for _ in 0..<6 { low.rig.submitIn(count: 16.kibibytes) }
        #expect(low.atBackend.count == 4)
        #expect(low.lane.status.queued == 2)
        #expect(low.lane.status.heldTotal == 2)
        #expect(low.rig.device.inFlight == 6)
        low.rig.backend.completeNext()
        #expect(low.atBackend.count == 4)
        #expect(low.lane.status.queued == 1)
        while low.rig.backend.completeNext() {}
        #expect(low.rig.statuses == Array(repeating: .success, count: 6))
        #expect(low.passedOver.elements == [])
        bus.expectAtRest([low, high])
    }

    @Test("The important one leaves: all go at once")
    func importantLeaves() async throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let high = try bus.guest(90)
        for _ in 0..<6 { low.rig.submitIn(count: 16.kibibytes) }
        await high.rig.device.close()
        #expect(low.atBackend.count == 6)
        low.rig.backend.completeAll(.success)
        bus.expectAtRest([low, high])
    }

    @Test("An important bulk URB goes at once, also when the window is full")
    func importantGoesAtOnce() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let high = try bus.guest(90)
        for _ in 0..<6 { low.rig.submitIn(count: 16.kibibytes) }
        high.rig.submitIn(count: 64)
        #expect(high.atBackend == [64])
        high.rig.backend.completeNext()
        while low.rig.backend.completeNext() {}
        bus.expectAtRest([low, high])
    }

    @Test("Interrupt and isochronous URBs go at once, also those of the least important guest")
    func periodic() throws {
        let bus = BusRig()
        let low = try bus.guest(10, backend: ScriptedBackend(always: .hold))
        let high = try bus.guest(90)
        low.rig.control(.setInterface(0, alternate: 2))
        low.rig.backend.completeNext()
        for _ in 0..<2 { low.rig.submitIn(count: 64.kibibytes) }
        #expect(low.atBackend == [64.kibibytes])
        low.rig.submitIn(0x85, count: 64)
        #expect(low.atBackend == [64.kibibytes, 64])
        low.rig.backend.completeAll(.success)
        low.rig.backend.completeAll(.success)
        low.rig.control(.setInterface(0, alternate: 1))
        low.rig.backend.completeNext()
        low.rig.submitIn(count: 64.kibibytes)
        let handler = low.rig.handler
        low.rig.device.submit(
            TestURB.isochronous(
                EndpointAddress(rawValue: 0x83), lengths: [1024, 1024], pool: low.rig.pool, handler: handler))
        #expect(low.atBackend == [64.kibibytes, 2048])
        low.rig.backend.completeAll(.success)
        bus.expectAtRest([low, high])
    }

    @Test("By priority, control first; those of one priority take turns, each in its own order")
    func order() throws {
        let bus = BusRig()
        let order = Inbox<Int>()
        func guest(_ priority: Int) throws -> BusRig.Guest {
            try bus.guest(priority, backend: ScriptedBackend(always: .run { order.append($0.requestedLength) }))
        }
        let top = try bus.guest(90)
        let (first, second, third, middle) = (try guest(10), try guest(10), try guest(10), try guest(50))
        top.rig.submitIn(count: 64.kibibytes)
        // One of them fits at a time.
        for tag in [1, 2, 3] { first.rig.submitIn(count: 40.kibibytes + tag) }
        bus.clock.advance(by: .microseconds(1))
        for tag in [4, 5] { second.rig.submitIn(count: 40.kibibytes + tag) }
        third.rig.submitIn(count: 40.kibibytes + 6)
        bus.clock.advance(by: .microseconds(1))
        middle.rig.submitIn(count: 40.kibibytes + 7)
        third.rig.control(SetupPacket(bmRequestType: 0xc0, bRequest: 1, wValue: 0, wIndex: 0, wLength: 32768))
        #expect(order.elements == [])
        top.rig.backend.completeNext()
        let rest = [first, second, third, middle]
        for _ in 0..<8 {
            bus.clock.advance(by: .microseconds(1))
            for guest in rest where guest.rig.backend.completeNext() { break }
        }
        #expect(order.elements == [7, nil, 1, 4, 6, 2, 5, 3].map { $0.map { 40.kibibytes + $0 } ?? 32768 })
        bus.expectAtRest([top] + rest)
    }

    @Test("A URB that is larger than the window goes alone, and holds nobody important up")
    func largerThanTheWindow() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let high = try bus.guest(90)
        low.rig.submitIn(count: 1.kibibytes)
        low.rig.submitIn(count: 1 << 20)
        low.rig.submitIn(count: 2.kibibytes)
        #expect(low.atBackend == [1.kibibytes])
        low.rig.backend.completeNext()
        #expect(low.atBackend == [1 << 20])
        high.rig.submitIn(count: 64.kibibytes)
        #expect(high.atBackend == [64.kibibytes])
        low.rig.backend.completeNext()
        #expect(low.atBackend == [])
        high.rig.backend.completeNext()
        #expect(low.atBackend == [2.kibibytes])
        low.rig.backend.completeNext()
        bus.expectAtRest([low, high])
    }

    @Test("A URB that its device doesn't answer is parked: it stops counting, and its end changes nothing")
    func parking() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let other = try bus.guest(10)
        let high = try bus.guest(90)
        for _ in 0..<4 { low.rig.submitIn(count: 16.kibibytes) }
        other.rig.submitIn(count: 64.kibibytes)
        #expect(other.atBackend == [])
        bus.clock.advance(by: BusRig.parkingTime)
        #expect(other.atBackend == [64.kibibytes])
        #expect(bus.scheduler.bytesInWindow == 64.kibibytes)
        low.rig.backend.completeAll(.success)
        #expect(bus.scheduler.bytesInWindow == 64.kibibytes)
        other.rig.backend.completeAll(.success)
        bus.expectAtRest([low, other, high])
    }

    @Test("A long URB is parked later: it takes the bus longer")
    func parkingOfALongOne() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let high = try bus.guest(90)
        // 16 ms of the bus.
        low.rig.submitIn(count: 1 << 20)
        low.rig.submitIn(count: 64)
        bus.clock.advance(by: .milliseconds(20))
        #expect(low.atBackend == [1 << 20])
        bus.clock.advance(by: .milliseconds(14))
        #expect(low.atBackend == [1 << 20, 64])
        low.rig.backend.completeAll(.success)
        bus.expectAtRest([low, high])
    }

    @Test("A bus that is slower than it's said to be: what it's busy with isn't parked, once that is known")
    func slowBus() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let high = try bus.guest(90)
        for _ in 0..<200 { low.rig.submitIn(count: 16.kibibytes) }
        let data = Array(repeating: UInt8(1), count: 16.kibibytes)
        // 4 MB/s instead of 64.
        for _ in 0..<100 {
            bus.clock.advance(by: .milliseconds(4))
            low.rig.backend.completeNext(data: data)
        }
        #expect(bus.scheduler.bytesInWindow == 64.kibibytes)
        #expect(low.atBackend.count < 12)
        while low.rig.backend.completeNext() {}
        bus.expectAtRest([low, high])
    }

    @Test("Ageing: a guest that important ones leave no room gets a URB through in the time that makes up for them")
    func ageing() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let high = try bus.guest(90)
        for _ in 0..<2 { high.rig.submitIn(count: 32.kibibytes) }
        for _ in 0..<2 { low.rig.submitIn(count: 64.kibibytes) }
        // The top guest always has a full window in flight, and each of its URBs is answered in 2 ms.
        func millisecondsOfTraffic(_ count: Int) {
            for _ in 0..<count {
                high.rig.submitIn(count: 32.kibibytes)
                bus.clock.advance(by: .milliseconds(1))
                high.rig.backend.completeNext()
            }
        }
        millisecondsOfTraffic(799)
        #expect(low.atBackend == [])
        millisecondsOfTraffic(2)
        #expect(low.atBackend == [64.kibibytes])
        // The next one waits as long again.
        low.rig.backend.completeNext()
        millisecondsOfTraffic(790)
        #expect(low.atBackend == [])
        millisecondsOfTraffic(20)
        #expect(low.atBackend == [64.kibibytes])
        while high.rig.backend.completeNext() {}
        low.rig.backend.completeNext()
        bus.expectAtRest([low, high])
    }

    @Test("Passed over: told with how long when it goes, once a second at most, with the longest")
    func passedOver() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let high = try bus.guest(90)
        func passOver(for time: Duration) {
            low.rig.submitIn(count: 64.kibibytes)
            low.rig.submitIn(count: 64.kibibytes)
            bus.clock.advance(by: .microseconds(10))
            high.rig.submitIn(count: 64)
            high.rig.backend.completeNext()
            bus.clock.advance(by: time)
            low.rig.backend.completeNext()
            low.rig.backend.completeNext()
        }
        passOver(for: .microseconds(990))
        #expect(low.passedOver.elements == [.milliseconds(1)])
        passOver(for: .microseconds(1990))
        passOver(for: .microseconds(490))
        #expect(low.passedOver.elements == [.milliseconds(1)])
        bus.clock.advance(by: .seconds(1))
        passOver(for: .microseconds(290))
        #expect(low.passedOver.elements == [.milliseconds(1), .milliseconds(2)])
        #expect(low.lane.status.longestWait == .milliseconds(2))
        #expect(high.passedOver.elements == [])
        bus.expectAtRest([low, high])
    }

    @Test("Priority inherited: what is held back goes at the new one")
    func inheritance() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let middle = try bus.guest(50)
        let high = try bus.guest(90)
        middle.rig.submitIn(count: 64.kibibytes)
        middle.rig.submitIn(count: 64.kibibytes)
        low.rig.submitIn(count: 64.kibibytes)
        #expect(low.atBackend == [])
        low.lane.setPriority(90)
        #expect(low.lane.priority == 90)
        #expect(low.atBackend == [64.kibibytes])
        low.lane.setPriority(10)
        low.rig.submitIn(count: 64.kibibytes)
        low.rig.backend.completeNext()
        middle.rig.backend.completeNext()
        #expect(middle.atBackend == [64.kibibytes])
        #expect(low.atBackend == [])
        middle.rig.backend.completeNext()
        low.rig.backend.completeNext()
        bus.expectAtRest([low, middle, high])
    }

    @Test("A backend that completes within submit isn't called recursively for what was held back")
    func inlineCompletion() throws {
        let bus = BusRig()
        let low = try bus.guest(10)
        let other = try bus.guest(10, backend: ScriptedBackend(always: .complete()))
        let high = try bus.guest(90)
        low.rig.submitIn(count: 64.kibibytes)
        // More than one pump lets go: the clock does the rest.
        for _ in 0..<300 { other.rig.submitIn(count: 32.kibibytes) }
        #expect(other.rig.statuses.isEmpty)
        low.rig.backend.completeNext()
        #expect(other.rig.statuses.count == 64)
        bus.clock.advance(by: .zero)
        #expect(other.rig.statuses.count == 300)
        #expect(Set(other.rig.statuses) == [.success])
        bus.expectAtRest([low, other, high])
    }
}
