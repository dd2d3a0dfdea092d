// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Cancellation.md: held back", .timeLimit(.minutes(1)))
struct HeldBackTests {
    /// A guest with a URB of a full window at its backend and two behind it that are held back.
    private struct Held {
        let bus = BusRig()
        let guest: BusRig.Guest
        let high: BusRig.Guest
        let tokens: [URBToken]

        init(_ backend: ScriptedBackend = ScriptedBackend(always: .hold)) throws {
            let guest = try bus.guest(10, backend: backend)
            self.guest = guest
            high = try bus.guest(90)
            tokens = (0..<3).map { guest.rig.submitIn(count: 64.kibibytes, context: UInt64($0)) }
            #expect(guest.lane.status.queued == 2)
            #expect(guest.rig.device.inFlight == 3)
        }

        var device: VirtualDevice { guest.rig.device }
        var submitsSeen: Int {
            guest.rig.backend.calls.elements.count { if case .submit = $0 { true } else { false } }
        }
        func expectAtRest() { bus.expectAtRest([guest, high]) }
    }

    @Test("C70: it's its turn: the backend gets it, in order")
    func turn() throws {
        let held = try Held()
        while held.guest.rig.backend.completeNext() {}
        #expect(held.guest.rig.handler.completions.map(\.context) == [0, 1, 2])
        #expect(held.submitsSeen == 3)
        held.expectAtRest()
    }

    @Test("C71: cancelled: ends at once, the backend never sees it")
    func cancel() throws {
        let held = try Held()
        held.device.cancel(held.tokens[1])
        held.device.cancel(held.tokens[1])
        #expect(held.guest.rig.statuses == [.cancelled])
        #expect(held.guest.rig.handler.completions.map(\.context) == [1])
        #expect(held.device.inFlight == 2)
        while held.guest.rig.backend.completeNext() {}
        #expect(held.guest.rig.handler.completions.map(\.context) == [1, 0, 2])
        #expect(held.submitsSeen == 2)
        held.expectAtRest()
    }

    @Test("C71: cancelAll: those held back end at once, the backend is asked for the others")
    func cancelAll() throws {
        let held = try Held()
        held.device.cancelAll()
        #expect(held.guest.rig.statuses == [.cancelled, .cancelled, .cancelled])
        #expect(held.submitsSeen == 1)
        held.expectAtRest()
    }

    @Test("C71: the one that goes next is cancelled: others' turn comes at once where it was in their way")
    func cancelOfTheFirst() throws {
        let held = try Held()
        held.guest.rig.backend.completeNext()
        let large = held.guest.rig.submitIn(count: 1 << 20)
        held.guest.rig.submitIn(count: 0)
        held.device.cancel(held.tokens[2])
        #expect(held.guest.lane.status.queued == 2)
        held.device.cancel(large)
        #expect(held.guest.lane.status.queued == 0)
        while held.guest.rig.backend.completeNext() {}
        held.expectAtRest()
    }

    @Test("C72: cancelled while it goes to the backend: it ends there or before")
    func cancelledOnTheWay() throws {
        let later = Later<URBToken>()
        let device = Later<VirtualDevice>()
        // From inside the submit of the first that was held back, the second isn't there yet.
        let backend = ScriptedBackend([
            .submit(.any, .hold),
            .submit(
                .any,
                .run { urb in
                    if let token = later.value { device.value?.cancel(token) }
                    urb.complete()
                }
            ),
        ])
        let held = try Held(backend)
        later.value = held.tokens[2]
        device.value = held.device
        backend.completeNext()
        #expect(held.guest.rig.statuses == [.success, .cancelled, .success])
        device.value = nil
        held.expectAtRest()
    }

    @Test("C73: unplug: those held back end with ENODEV, the backend never sees them")
    func unplug() throws {
        let held = try Held()
        held.device.disconnect()
        #expect(held.guest.rig.statuses == [.noDevice, .noDevice, .noDevice])
        #expect(held.submitsSeen == 1)
        held.expectAtRest()
    }

    @Test("C73: close: as unplug, and the lane doesn't compete any more")
    func close() async throws {
        let held = try Held()
        let other = try held.bus.guest(10)
        other.rig.submitIn(count: 64.kibibytes)
        #expect(other.atBackend == [])
        await held.device.close()
        #expect(held.guest.rig.statuses == [.noDevice, .noDevice, .noDevice])
        #expect(held.submitsSeen == 1)
        #expect(other.atBackend == [64.kibibytes])
        other.rig.backend.completeNext()
        held.bus.expectAtRest([held.guest, held.high, other])
    }

    @Test("C74: drain: what was accepted goes on, the drain waits for it")
    func drain() async throws {
        let held = try Held()
        #expect(await held.device.drain(for: .milliseconds(1)) == 3)
        held.guest.rig.submitIn()
        #expect(held.guest.rig.statuses == [.busy])
        let draining = Task { await held.device.drain(for: .seconds(30)) }
        while held.guest.rig.backend.completeNext() {}
        #expect(await draining.value == 0)
        #expect(held.guest.rig.statuses == [.busy, .success, .success, .success])
        held.expectAtRest()
    }

    @Test("C75: reset: those held back end with ESHUTDOWN, the backend never sees them")
    func reset() async throws {
        let held = try Held()
        try await held.device.reset()
        #expect(held.guest.rig.statuses == [.shutdown, .shutdown, .shutdown])
        #expect(held.submitsSeen == 1)
        held.expectAtRest()
    }

    @Test("C76: SET_INTERFACE succeeds: what is held back on that interface's endpoints ends with ESHUTDOWN before")
    func setInterface() throws {
        let held = try Held()
        // It has no data, and so goes at once.
        held.guest.rig.control(.setInterface(0, alternate: 1))
        held.guest.rig.backend.held.last?.complete()
        #expect(held.guest.rig.statuses == [.shutdown, .shutdown, .success])
        held.guest.rig.backend.completeNext(.shutdown)
        #expect(held.submitsSeen == 2)
        held.expectAtRest()
    }

    @Test("C77: a URB that the backend drops isn't counted any more")
    func dropped() throws {
        let bus = BusRig()
        let lane = BusLane(bus.scheduler, priority: 10)
        let high = try bus.guest(90)
        let (pool, handler) = (BufferPool(), RecordingHandler())
        let device = SampleDevice.attach(
            Dropping(), descriptors: try SampleDevice.zero(), pool: pool, lane: lane)
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler))
        #expect(handler.completions.map(\.status) == [.io])
        bus.expectAtRest([high])
    }

    private final class Dropping: USBBackend {
        func submit(_ urb: consuming URB) {}
        func cancel(_ token: URBToken) {}
        func reset() async throws(USBError) {}
        func close() async {}
    }
}
