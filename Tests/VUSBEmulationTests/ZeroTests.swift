// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

/// What usbtest asks of a Gadget Zero.
@Suite struct ZeroTests {
    @Test(arguments: [("full", 64), ("high", 512), ("super", 1024)])
    func theSourceFillsEveryRequestOfWholePackets(_ speed: String, _ packet: Int) async throws {
        let host = try await TestHost("zero,speed=\(speed),pattern=mod63")
        for count in [packet, 4 * packet, 65536, 524_288, 2 << 20] {
            let completion = await host.receive(0x81, count)
            #expect(completion.status == .success && completion.actualLength == count)
            #expect(completion.bytes == (0..<count).map { UInt8($0 % packet % 63) })
        }
        await host.close()
    }

    @Test func theSourceSendsZerosByDefault() async throws {
        let host = try await TestHost("zero")
        #expect(await host.receive(0x81, 65536).bytes == Array(repeating: 0, count: 65536))
        #expect(await host.receive(0x81, 2 << 20).bytes.allSatisfy { $0 == 0 })
        await host.close()
    }

    @Test func aRequestThatEndsInsideAPacketIsBabble() async throws {
        let host = try await TestHost("zero")
        for count in [1, 511, 513, 65535] {
            let completion = await host.receive(0x81, count)
            #expect(completion.status == .babble, "\(count)")
            #expect(completion.actualLength == count / 512 * 512)
        }
        #expect(await host.receive(0x81, 512).status == .success)
        await host.close()
    }

    @Test func theSinkTakesAnything() async throws {
        let host = try await TestHost("zero")
        for count in [0, 1, 511, 512, 513, 65536] {
            let completion = await host.send(0x02, Array(repeating: 0x5a, count: count))
            #expect(completion.status == .success && completion.actualLength == count)
        }
        await host.close()
    }

    @Test func theSinkOfAPatternHaltsOnAnythingElse() async throws {
        let host = try await TestHost("zero,pattern=mod63")
        let pattern = (0..<2048).map { UInt8($0 % 512 % 63) }
        #expect(await host.send(0x02, pattern).status == .success)
        #expect(await host.isHalted(0x02) == false)
        #expect(await host.send(0x02, pattern.reversed()).status == .success)
        #expect(await host.isHalted(0x02))
        #expect(await host.send(0x02, pattern).status == .stall)
        await host.clearHalt(0x02)
        #expect(await host.send(0x02, pattern).status == .success)
        await host.close()
    }

    @Test func vendorRequestsKeepAndReturn() async throws {
        let host = try await TestHost("zero")
        for count in [0, 1, 64, 4096] {
            let data = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7) }
            #expect(await host.control(0x40, 0x5b, data: data).status == .success)
            #expect(await host.control(0xc0, 0x5c, length: count).bytes == data)
        }
        #expect(await host.control(0x40, 0x5b, data: Array(repeating: 0, count: 4097)).status == .stall)
        #expect(await host.control(0xc0, 0x5c, length: 4097).status == .stall)
        #expect(await host.control(0x40, 0x5c, data: [1]).status == .stall)
        #expect(await host.control(0xc0, 0x5b, length: 1).status == .stall)
        await host.close()
    }

    @Test(arguments: ["full", "high", "super"]) func isochronousPacketsAreFullAndTakeTheirTime(_ speed: String)
        async throws
    {
        let host = try await TestHost("zero,pattern=mod63,speed=\(speed)")
        await host.setInterface(0, 1)
        let clock = ContinuousClock()
        let start = clock.now
        let packet = speed == "full" ? 1023 : 1024
        // One a millisecond.
        let completion = await host.isochronous(0x83, Array(repeating: UInt32(packet), count: 8))
        #expect(clock.now - start >= .milliseconds(8))
        #expect(completion.status == .success && completion.actualLength == 8 * packet && completion.errorCount == 0)
        #expect(completion.packets.allSatisfy { $0.actualLength == UInt32(packet) && $0.status == .success })
        #expect(completion.bytes == (0..<8 * packet).map { UInt8($0 % packet % 63) })
        let sent = await host.isochronous(0x04, [100, 0, 200])
        #expect(sent.status == .success && sent.packets.map(\.actualLength) == [100, 0, 200])
        await host.close()
    }

    @Test func isochronousTransfersInARowLoseNoTime() async throws {
        let host = try await TestHost("zero")
        await host.setInterface(0, 1)
        let handler = RecordingHandler()
        let clock = ContinuousClock()
        let start = clock.now
        for index in 0..<10 {
            host.device.submit(
                TestURB.isochronous(
                    EndpointAddress(rawValue: 0x83), lengths: [1024, 1024, 1024], pool: host.pool, handler: handler,
                    context: UInt64(index)))
        }
        let completions = await handler.wait(for: 10)
        #expect(clock.now - start >= .milliseconds(30))
        #expect(completions.map(\.context) == Array(0..<10))
        await host.close()
    }

    @Test func interruptTransfersArePaced() async throws {
        let host = try await TestHost("zero")
        await host.setInterface(0, 2)
        let clock = ContinuousClock()
        let start = clock.now
        let handler = RecordingHandler()
        for _ in 0..<11 {
            host.device.submit(
                TestURB.in(EndpointAddress(rawValue: 0x85), count: 1024, pool: host.pool, handler: handler))
        }
        let completions = await handler.wait(for: 11)
        // The first at once, then one a millisecond.
        #expect(clock.now - start >= .milliseconds(10))
        #expect(completions.allSatisfy { $0.status == .success && $0.actualLength == 1024 })
        #expect(await host.send(0x06, [1, 2, 3]).status == .success)
        #expect(await host.receive(0x85, 100).status == .babble)
        await host.close()
    }

    @Test func aTransferThatIsPacedCanBeCancelled() async throws {
        let host = try await TestHost("zero")
        await host.setInterface(0, 1)
        let handler = RecordingHandler()
        // A second.
        let urb = TestURB.isochronous(
            EndpointAddress(rawValue: 0x83), lengths: Array(repeating: 8, count: 1000), pool: host.pool,
            handler: handler)
        let token = host.device.submit(urb)
        host.device.cancel(token)
        #expect(await handler.wait(for: 1)[0].status == .cancelled)
        await host.close()
    }

    @Test func eightThreadsKeepTheOrderOfTheirURBs() async throws {
        let host = try await TestHost("zero")
        await withTaskGroup(of: Void.self) { group in
            for thread in 0..<8 {
                group.addTask {
                    let handler = RecordingHandler()
                    let endpoint = EndpointAddress(rawValue: thread % 2 == 0 ? 0x81 : 0x02)
                    for index in 0..<500 {
                        let urb =
                            thread % 2 == 0
                            ? TestURB.in(
                                endpoint, count: 512, pool: host.pool, handler: handler, context: UInt64(index))
                            : TestURB.out(
                                endpoint, [1, 2, 3], pool: host.pool, handler: handler, context: UInt64(index))
                        host.device.submit(urb)
                        if thread == 7, index % 50 == 0 { await host.control(0x82, 0, 0, 0x81, length: 2) }
                    }
                    let completions = await handler.wait(for: 500)
                    #expect(completions.map(\.context) == Array(0..<500))
                    #expect(completions.allSatisfy { $0.status == .success })
                }
            }
        }
        await host.close()
    }

    @Test func aHandlerThatSubmitsAgainDoesNotRecurse() async throws {
        let host = try await TestHost("zero")
        let chain = Chain(host: host, count: 20_000)
        chain.submit()
        await chain.done.wait(for: 1)
        await host.close()
    }

    /// Submits the next URB from within the completion of the one before.
    private final class Chain: URBHandler {
        let host: TestHost
        let count: UInt64
        let done = Inbox<Void>()

        init(host: TestHost, count: UInt64) {
            self.host = host
            self.count = count
        }

        func submit(_ context: UInt64 = 0) {
            host.device.submit(
                TestURB.in(
                    EndpointAddress(rawValue: 0x81), count: 512, pool: host.pool, handler: self, context: context))
        }

        func urbCompleted(_ urb: consuming URB) {
            let next = urb.context + 1
            drop(urb)
            if next < count { submit(next) } else { done.append(()) }
        }

        private func drop(_ urb: consuming URB) {}
    }
}
