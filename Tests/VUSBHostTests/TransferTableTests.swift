// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

@Suite struct TransferTableTests {
    let factory = CarrierFactory()
    let pool = BufferPool()
    let handler = RecordingHandler()
    let table: TransferTable
    let device: VirtualDevice

    init() throws {
        table = factory.makeTable()
        device = SampleDevice.attach(TableBackend(table), descriptors: try SampleDevice.zero(), pool: pool)
    }

    @discardableResult
    private func read(_ count: Int = 64, context: UInt64 = 0) -> URBToken {
        device.submit(
            TestURB.in(EndpointAddress(rawValue: 0x81), count: count, pool: pool, handler: handler, context: context))
    }

    private func expectIdle() {
        #expect(table.inFlight == 0)
        #expect(device.inFlight == 0)
        #expect(pool.outstanding == 0)
    }

    @Test func `a transfer is recycled for the next URB`() throws {
        for context in 0..<5 as Range<UInt64> {
            read(context: context)
            try #require(factory.carriers.first).complete((.success, 10))
        }
        #expect(factory.carriers.count == 1)
        #expect(handler.completions.map(\.context) == [0, 1, 2, 3, 4])
        #expect(handler.completions.allSatisfy { $0.status == .success && $0.actualLength == 10 })
        expectIdle()
    }

    @Test func `URBs in flight at once have a transfer each`() {
        for _ in 0..<8 { read() }
        #expect(factory.carriers.count == 8)
        #expect(table.inFlight == 8)
        for carrier in factory.carriers { carrier.complete((.success, 0)) }
        expectIdle()
    }

    @Test func `a refused submit completes the URB and frees the transfer`() throws {
        read()
        let carrier = try #require(factory.carriers.first)
        carrier.complete((.success, 0))
        carrier.state.withLock { $0.submitCode = LibUSBCode.noDevice }
        read()
        carrier.state.withLock {
            $0.submitCode = 0
            $0.refusal = .tooLong
        }
        read()
        #expect(handler.completions.map(\.status) == [.success, .noDevice, .tooLong])
        #expect(carrier.state.withLock { $0.discards } == 2)
        expectIdle()
    }

    @Test func `no memory for a transfer is a status`() async throws {
        let table = TransferTable { _ in nil }
        let device = SampleDevice.attach(TableBackend(table), descriptors: try SampleDevice.zero(), pool: pool)
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler))
        #expect(handler.completions.map(\.status) == [.noMemory])
        expectIdle()
    }

    @Test func `a cancel ends the URB as cancelled, once`() throws {
        let token = read()
        device.cancel(token)
        table.cancel(token)
        #expect(handler.completions.map(\.status) == [.cancelled])
        #expect(factory.carriers.first?.state.withLock { $0.cancels } == 1)
        expectIdle()
    }

    @Test func `a cancel that comes while libusb submits is passed on after it`() throws {
        read()
        let carrier = try #require(factory.carriers.first)
        carrier.complete((.success, 0))
        let table = table
        // The same slot in its next generation: the only token that the table can have now.
        carrier.state.withLock { state in
            state.duringSubmit = {
                _ = table.close(1 << 17, refusing: .shutdown, ending: .shutdown, limit: .zero)
                table.open(1 << 17)
                #expect(carrier.state.withLock { $0.cancels } == 0)
            }
        }
        read()
        #expect(handler.completions.map(\.status) == [.success, .shutdown])
        expectIdle()
    }

    @Test func `a completion before submit returns is a completion`() throws {
        read()
        let carrier = try #require(factory.carriers.first)
        carrier.complete((.success, 1))
        carrier.state.withLock { $0.duringSubmit = { carrier.complete((.success, 2)) } }
        read()
        #expect(handler.completions.map(\.actualLength) == [1, 2])
        expectIdle()
    }

    @Test func `a completion that overtakes a cancel leaves the transfer to the canceller`() throws {
        let token = read(context: 1)
        let first = try #require(factory.carriers.first)
        let device = device
        let (pool, handler) = (pool, handler)
        // The URB ends, its token is free, and another URB comes, all while somebody is inside libusb's cancel.
        first.state.withLock { state in
            state.duringCancel = {
                first.complete((.success, 5))
                device.submit(
                    TestURB.in(EndpointAddress(rawValue: 0x81), count: 64, pool: pool, handler: handler, context: 2)
                )
            }
        }
        device.cancel(token)

        #expect(handler.completions.map(\.context) == [1])
        #expect(handler.completions.map(\.status) == [.success])
        // The late cancel can't have met the second URB: that one has a transfer of its own.
        #expect(factory.carriers.count == 2)
        #expect(first.state.withLock { $0.submissions } == 1)
        factory.carriers.last?.complete((.success, 6))
        #expect(handler.completions.map(\.actualLength) == [5, 6])
        expectIdle()
    }

    @Test func `a cancel with an old token misses the next URB in the slot`() throws {
        let old = read(context: 1)
        factory.carriers.first?.complete((.success, 0))
        let new = read(context: 2)
        #expect(old.index == new.index)
        table.cancel(old)
        #expect(factory.carriers.first?.state.withLock { $0.cancels } == 0)
        factory.carriers.first?.complete((.success, 0))
        expectIdle()
    }

    @Test func `closed endpoints refuse, others go on, and all is as before when opened`() throws {
        read()
        #expect(table.close(1 << 17, refusing: .shutdown, ending: .shutdown, limit: .seconds(20)))
        read()
        device.submit(TestURB.out(EndpointAddress(rawValue: 0x02), [1], pool: pool, handler: handler))
        factory.carriers.last?.complete((.success, 1))
        table.open(1 << 17)
        read()
        factory.carriers.first { $0.state.withLock { $0.isSubmitted } }?.complete((.success, 3))
        #expect(handler.completions.map(\.status) == [.shutdown, .shutdown, .success, .success])
        expectIdle()
    }

    @Test func `transfers that don't end in time are said to be there`() throws {
        let factory = CarrierFactory(endsOnCancel: false)
        let table = factory.makeTable()
        let device = SampleDevice.attach(TableBackend(table), descriptors: try SampleDevice.zero(), pool: pool)
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler))
        let all = TransferTable.allEndpoints
        #expect(!table.close(all, refusing: .noDevice, ending: .cancelled, limit: .milliseconds(1)))
        #expect(table.inFlight == 1)
        factory.carriers.first?.complete(nil)
        #expect(table.close(all, refusing: .noDevice, ending: .cancelled, limit: .zero))
        #expect(handler.completions.map(\.status) == [.cancelled])
        #expect(table.inFlight == 0)
    }

    @Test func `submits, cancels and completions from four threads lose nothing`() async throws {
        let rounds = 2_000
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    for _ in 0..<rounds { device.cancel(read()) }
                }
            }
            for _ in 0..<2 {
                group.addTask {
                    for _ in 0..<rounds {
                        for carrier in factory.carriers { carrier.complete((.success, 1)) }
                    }
                }
            }
        }
        for carrier in factory.carriers { carrier.complete((.success, 1)) }
        await handler.wait(for: 2 * rounds)
        #expect(handler.completions.count == 2 * rounds)
        #expect(handler.completions.allSatisfy { [.success, .cancelled].contains($0.status) })
        expectIdle()
    }

    @Test func `the last URB may end the device in its handler`() throws {
        weak var weakTable: TransferTable?
        let factory = CarrierFactory()
        do {
            let table = factory.makeTable()
            weakTable = table
            let device = SampleDevice.attach(TableBackend(table), descriptors: try SampleDevice.zero(), pool: pool)
            device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler))
        }
        let carrier = try #require(factory.carriers.first)
        carrier.complete((.success, 0))
        carrier.state.withLock { $0.transfer = nil }
        #expect(handler.completions.count == 1)
        #expect(weakTable == nil)
        #expect(pool.outstanding == 0)
    }
}
