// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// The cases Q1 to Q13 of Health.md.
@Suite struct HealthTests {
    private static let bulkIn = EndpointAddress(rawValue: 0x81)
    let clock = ManualClock()
    let verdicts = Inbox<Misbehaviour>()

    /// Only what a test names has a limit.
    private func rig(
        _ backend: ScriptedBackend = ScriptedBackend(always: .hold), _ change: (inout HealthLimits) -> Void
    ) throws -> Rig {
        var limits = HealthLimits.off
        change(&limits)
        return try Rig(backend, health: DeviceHealth(limits, clock: clock) { [verdicts] in verdicts.append($0) })
    }

    private func transfer(_ rig: Rig, on endpoint: UInt8 = 0x81, _ status: URBStatus, times: Int = 1) {
        for _ in 0..<times {
            if endpoint & 0x80 != 0 {
                rig.submitIn(endpoint)
            } else {
                let address = EndpointAddress(rawValue: endpoint)
                rig.device.submit(TestURB.out(address, [1], pool: rig.pool, handler: rig.handler))
            }
            rig.backend.completeNext(status)
        }
    }

    private func request(_ rig: Rig, _ setup: SetupPacket, _ status: URBStatus) {
        rig.control(setup)
        rig.backend.completeNext(status)
    }

    @Test func `Q2: an endpoint that only stalls is judged at the limit, and the reason says so`() throws {
        let rig = try rig { $0.stalls = EventLimit(1000, in: .seconds(10)) }
        transfer(rig, .stall, times: 999)
        #expect(verdicts.elements == [])
        transfer(rig, .stall)
        #expect(verdicts.elements == [.stalls(1000, within: .seconds(10), on: Self.bulkIn)])
        #expect(verdicts.elements.first?.description == "stalled 1000 times in 10 s on endpoint 81")
        #expect(rig.device.health?.verdict == verdicts.elements.first)
        rig.expectAtRest()
    }

    @Test func `Q1: a disk whose every command fails isn't judged`() throws {
        let rig = try rig { $0.stalls = EventLimit(2, in: .seconds(10)) }
        for _ in 0..<200 {
            transfer(rig, on: 0x02, .success)
            transfer(rig, on: 0x81, .stall)
            request(rig, .clearHalt(0x81), .success)
            transfer(rig, on: 0x81, .success)
        }
        #expect(verdicts.elements == [])
        rig.expectAtRest()
    }

    @Test func `Q1: a success of another endpoint doesn't help the one that stalls`() throws {
        let rig = try rig { $0.stalls = EventLimit(3, in: .seconds(10)) }
        for _ in 0..<3 {
            transfer(rig, on: 0x81, .stall)
            request(rig, .clearHalt(0x81), .success)
            transfer(rig, on: 0x02, .success)
        }
        #expect(verdicts.elements == [.stalls(3, within: .seconds(10), on: Self.bulkIn)])
    }

    @Test func `Q1: stalls of two endpoints aren't added up`() throws {
        let rig = try rig { $0.stalls = EventLimit(3, in: .seconds(10)) }
        for _ in 0..<2 {
            transfer(rig, on: 0x81, .stall)
            transfer(rig, on: 0x02, .stall)
        }
        #expect(verdicts.elements == [])
    }

    @Test func `Q3: endpoint 0 has a limit of its own, and what vusb refuses itself doesn't count`() throws {
        let rig = try rig {
            $0.stalls = EventLimit(2, in: .seconds(10))
            $0.controlStalls = EventLimit(5, in: .seconds(10))
        }
        // No such configuration: the device never sees it.
        for _ in 0..<10 { rig.control(.setConfiguration(9)) }
        let unknown = SetupPacket(bmRequestType: 0x40, bRequest: 1, wValue: 0, wIndex: 0, wLength: 0)
        for _ in 0..<4 { request(rig, unknown, .stall) }
        #expect(verdicts.elements == [])
        request(rig, unknown, .stall)
        #expect(verdicts.elements == [.stalls(5, within: .seconds(10), on: .control)])
        rig.expectAtRest()
    }

    @Test func `Q4: babble of all endpoints is added up, successes or not`() throws {
        let rig = try rig { $0.babble = EventLimit(4, in: .seconds(10)) }
        for _ in 0..<2 {
            transfer(rig, on: 0x02, .babble)
            transfer(rig, on: 0x81, .success)
            transfer(rig, on: 0x81, .babble)
        }
        #expect(verdicts.elements == [.babble(4, within: .seconds(10), on: Self.bulkIn)])
    }

    @Test(arguments: [URBStatus.protocolError, .checksumError, .noResponse, .io])
    func `Q5: errors of the wire are judged once they have gone on for some time`(status: URBStatus) throws {
        let rig = try rig { $0.protocolErrors = EventLimit(5, in: .seconds(10), lasting: .seconds(2)) }
        // As after an unplug, until the hub tells.
        transfer(rig, status, times: 100)
        clock.advance(by: .milliseconds(1999))
        transfer(rig, status)
        #expect(verdicts.elements == [])
        clock.advance(by: .milliseconds(1))
        transfer(rig, status)
        #expect(verdicts.elements == [.protocolErrors(102, within: .seconds(10), on: Self.bulkIn)])
    }

    @Test(arguments: [
        URBStatus.cancelled, .shutdown, .noDevice, .noMemory, .busy, .again, .shortNotOK, .partial, .noEndpoint,
        .timedOut,
    ])
    func `Q6: other endings don't count`(status: URBStatus) throws {
        let rig = try rig {
            $0.stalls = EventLimit(1, in: .seconds(10))
            $0.controlStalls = EventLimit(1, in: .seconds(10))
            $0.babble = EventLimit(1, in: .seconds(10))
            $0.protocolErrors = EventLimit(1, in: .seconds(10))
        }
        transfer(rig, status, times: 10)
        #expect(verdicts.elements == [])
    }

    @Test func `Q7: what is older than the window doesn't count`() throws {
        let rig = try rig { $0.stalls = EventLimit(10, in: .seconds(8)) }
        // One a second, for long: never more than 8 in 8 seconds.
        for _ in 0..<100 {
            transfer(rig, .stall)
            clock.advance(by: .seconds(1))
        }
        #expect(verdicts.elements == [])
        transfer(rig, .stall, times: 9)
        #expect(verdicts.elements.count == 1)
    }

    @Test func `Q8: a limit of zero is none`() throws {
        let rig = try rig { $0.cancelTime = .zero }
        for status in [URBStatus.stall, .babble, .protocolError] { transfer(rig, status, times: 1000) }
        rig.submitIn()
        #expect(rig.device.overdue(now: 1) == 0)
        #expect(verdicts.elements == [])
        rig.backend.completeAll()
        rig.expectAtRest()
    }

    @Test func `Q9: a cancelled URB that doesn't end is overdue`() throws {
        let backend = ScriptedBackend([.submit(.init(), .hold), .submit(.init(), .hold), .cancel(.ignore)])
        let rig = try rig(backend) { $0.cancelTime = .seconds(5) }
        rig.submitIn(0x81)
        let token = rig.device.submit(
            TestURB.out(EndpointAddress(rawValue: 0x02), [1], pool: rig.pool, handler: rig.handler))
        rig.device.cancel(token)
        #expect(rig.device.overdue(now: 10_000_000_000) == 0)
        #expect(rig.device.overdue(now: 14_999_999_999) == 0)
        #expect(verdicts.elements == [])
        #expect(rig.device.overdue(now: 15_000_000_000) == 1)
        let endpoint = EndpointAddress(rawValue: 0x02)
        #expect(verdicts.elements == [.cancelledInFlight(1, after: .seconds(5), on: endpoint)])
        #expect(
            verdicts.elements.first?.description == "1 cancelled transfer not ended after 5 s, on endpoint 02")
        // Told once.
        #expect(rig.device.overdue(now: 16_000_000_000) == 1)
        #expect(verdicts.elements.count == 1)
        backend.completeAll()
        #expect(rig.device.overdue(now: 30_000_000_000) == 0)
        rig.expectAtRest()
    }

    @Test func `Q9: a cancel that waits for a submit that doesn't return counts, too`() throws {
        let device = Later<VirtualDevice>()
        let looked = Inbox<Int>()
        let backend = ScriptedBackend([
            .submit(
                .init(),
                .run { urb in
                    guard let device = device.value else { return }
                    device.cancelAll()
                    looked.append(device.overdue(now: 1))
                    looked.append(device.overdue(now: 6_000_000_000))
                    urb.complete(.cancelled)
                })
        ])
        let rig = try rig(backend) { $0.cancelTime = .seconds(5) }
        device.value = rig.device
        rig.submitIn()
        #expect(looked.elements == [0, 1])
        #expect(verdicts.elements.count == 1)
        device.value = nil
        rig.expectAtRest()
    }

    @Test func `Q10: what ended, what runs its handler, and what nobody cancelled isn't overdue`() throws {
        let device = Later<VirtualDevice>()
        let looked = Inbox<Int>()
        let handler = RecordingHandler { _ in
            guard let device = device.value else { return }
            looked.append(device.overdue(now: 100_000_000_000))
        }
        let backend = ScriptedBackend([
            .submit(.init(), .hold), .cancel(.ignore), .submit(.init(), .hold),
        ])
        var limits = HealthLimits.off
        limits.cancelTime = .seconds(5)
        let rig = try Rig(
            backend, handler: handler,
            health: DeviceHealth(limits, clock: clock) { [verdicts] in verdicts.append($0) })
        device.value = rig.device
        rig.device.cancel(rig.submitIn())
        #expect(rig.device.overdue(now: 1_000_000_000) == 0)
        backend.completeNext(.cancelled)
        // The same slot, cancelled by nobody.
        rig.submitIn()
        #expect(rig.device.overdue(now: 200_000_000_000) == 0)
        backend.completeNext(.success)
        #expect(looked.elements == [0, 0])
        #expect(verdicts.elements == [])
        device.value = nil
        rig.expectAtRest()
    }

    @Test func `Q12: what goes on isn't told again, of whatever kind`() throws {
        let rig = try rig {
            $0.stalls = EventLimit(3, in: .seconds(10))
            $0.babble = EventLimit(3, in: .seconds(10))
        }
        transfer(rig, .stall, times: 100)
        transfer(rig, .babble, times: 100)
        #expect(verdicts.elements.count == 1)
    }

    @Test func `Q13: who is told may disconnect the device there and then`() throws {
        let device = Later<VirtualDevice>()
        var limits = HealthLimits.off
        limits.stalls = EventLimit(2, in: .seconds(10))
        let rig = try Rig(
            ScriptedBackend(always: .hold),
            health: DeviceHealth(limits, clock: clock) { [verdicts] in
                verdicts.append($0)
                device.value?.disconnect()
            })
        device.value = rig.device
        transfer(rig, .stall)
        rig.submitIn(context: 1)
        rig.submitIn(context: 2)
        rig.backend.completeNext(.stall)
        // The one in flight was cancelled before the handler of the one at hand was called.
        #expect(rig.handler.completions.map(\.context) == [0, 2, 1])
        #expect(rig.statuses == [.stall, .noDevice, .stall])
        transfer(rig, .stall)
        #expect(rig.statuses.last == .noDevice)
        #expect(verdicts.elements.count == 1)
        device.value = nil
        rig.expectAtRest()
    }
}
