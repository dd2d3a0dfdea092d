// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Scheduling.md: a guest's limits", .timeLimit(.minutes(1)))
struct GuestLimitsTests {
    @Test("URBs in flight: over both devices of the guest; others aren't affected")
    func urbsInFlight() throws {
        let bus = BusRig()
        let elsewhere = BusRig()
        let limits = GuestLimits(.init(urbsInFlight: 2))
        let guests = try [bus.guest(10, limits: limits), elsewhere.guest(10, limits: limits), bus.guest(10)]
        for guest in guests { for _ in 0..<2 { guest.rig.submitIn() } }
        #expect(guests.map(\.atBackend.count) == [2, 0, 2])
        guests[0].rig.backend.completeNext()
        #expect(guests[1].atBackend.count == 1)
        guests[0].rig.backend.completeNext()
        #expect(guests[1].atBackend.count == 2)
        for guest in guests { guest.rig.backend.completeAll(.success) }
        bus.expectAtRest([guests[0], guests[2]])
        elsewhere.expectAtRest([guests[1]])
    }

    @Test("URBs in flight: what waits for its device doesn't count, on another bus neither")
    func parkedDontCount() throws {
        let bus = BusRig()
        let elsewhere = BusRig()
        let limits = GuestLimits(.init(urbsInFlight: 2))
        let guests = try [bus.guest(10, limits: limits), elsewhere.guest(10, limits: limits)]
        for _ in 0..<2 { guests[0].rig.submitIn() }
        guests[1].rig.submitIn()
        bus.clock.advance(by: BusRig.parkingTime)
        elsewhere.clock.advance(by: BusRig.parkingTime)
        #expect(guests[1].atBackend.count == 1)
        for guest in guests { guest.rig.backend.completeAll(.success) }
        bus.expectAtRest([guests[0]])
        elsewhere.expectAtRest([guests[1]])
    }

    @Test("Bytes in flight: a URB over the limit goes alone")
    func bytesInFlight() throws {
        let bus = BusRig()
        let guest = try bus.guest(10, limits: GuestLimits(.init(bytesInFlight: 1000)))
        for count in [600, 400, 1, 5000, 1] { guest.rig.submitIn(count: count) }
        #expect(guest.atBackend == [600, 400])
        guest.rig.backend.completeNext()
        #expect(guest.atBackend == [400, 1])
        guest.rig.backend.completeNext()
        #expect(guest.atBackend == [1])
        guest.rig.backend.completeNext()
        #expect(guest.atBackend == [5000])
        guest.rig.backend.completeNext()
        #expect(guest.atBackend == [1])
        guest.rig.backend.completeNext()
        bus.expectAtRest([guest])
    }

    @Test("Bytes a second: a tenth of a second's at once, then at the rate, as the clock goes")
    func bytesPerSecond() throws {
        let bus = BusRig()
        let limits = GuestLimits(.init(bytesPerSecond: 10_000))
        let guest = try bus.guest(10, limits: limits)
        for _ in 0..<30 { guest.rig.device.submit(out(1000, guest)) }
        #expect(guest.atBackend.count == 1)
        guest.rig.backend.completeNext()
        bus.clock.advance(by: .milliseconds(1))
        var sent = 1
        for _ in 0..<100 {
            sent += guest.atBackend.count
            while guest.rig.backend.completeNext() {}
            bus.clock.advance(by: .milliseconds(10))
        }
        // A second at 10,000, beside what was saved up.
        #expect((10...12).contains(sent), "\(sent)")
        limits.change(to: .init())
        #expect(guest.rig.backend.held.count == 30 - guest.rig.handler.completions.count)
        while guest.rig.backend.completeNext() {}
        bus.expectAtRest([guest])
    }

    @Test("Bytes a second: what a short transfer didn't bring isn't counted")
    func shortTransfers() throws {
        let bus = BusRig()
        let guest = try bus.guest(10, limits: GuestLimits(.init(bytesPerSecond: 100_000)))
        for _ in 0..<20 {
            guest.rig.submitIn(count: 10_000)
            #expect(guest.atBackend.count == 1)
            guest.rig.backend.completeNext(data: [1, 2, 3])
        }
        bus.expectAtRest([guest])
    }

    @Test("A guest at its limit doesn't hold up less important ones")
    func limitedDoesntBlock() throws {
        let bus = BusRig()
        let flooding = try bus.guest(90, limits: GuestLimits(.init(urbsInFlight: 1)))
        let low = try bus.guest(10)
        for _ in 0..<4 { flooding.rig.submitIn(count: 16.kibibytes) }
        for _ in 0..<2 { low.rig.submitIn(count: 16.kibibytes) }
        #expect(flooding.atBackend.count == 1)
        #expect(low.atBackend.count == 2)
        while flooding.rig.backend.completeNext() {}
        while low.rig.backend.completeNext() {}
        bus.expectAtRest([flooding, low])
    }

    private func out(_ count: Int, _ guest: BusRig.Guest) -> URB {
        TestURB.out(
            EndpointAddress(rawValue: 0x02), Array(repeating: 1, count: count), pool: guest.rig.pool,
            handler: guest.rig.handler)
    }
}
