// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Glibc
import Logging
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

/// Q30 to Q36 of Health.md: device A hangs, device B doesn't notice.
@Suite struct HostIsolationTests {
    /// A device over fakes, and the thread that plays the one of its libusb context.
    private struct Host {
        let factory = CarrierFactory()
        let port = FakePort()
        let pool = BufferPool()
        let events: SerialThread
        let host: HostDevice
        let device: VirtualDevice

        init(_ name: String, limits: HostDevice.Limits = HostDevice.Limits(), closeLimit: Duration = .seconds(20))
            throws
        {
            events = try SerialThread(name: name)
            let descriptors = try SampleDevice.zero()
            var claim = HostClaim(driven: [0], configurationValue: 1)
            try claim.take([0], through: port)
            host = try HostDevice(descriptors, port: port, claim: claim, table: factory.makeTable(), limits: limits)
            device = VirtualDevice(
                backend: host, descriptors: descriptors, speed: .high, configurationValue: 1, pool: pool,
                closeLimit: closeLimit)
        }

        @discardableResult
        func read(_ handler: RecordingHandler, context: UInt64 = 0) -> URBToken {
            device.submit(
                TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler, context: context))
        }

        /// On its libusb's thread.
        func complete() {
            let factory = factory
            events.enqueue {
                for carrier in factory.carriers { carrier.complete((.success, 8)) }
            }
        }

        func clearHalt(_ handler: RecordingHandler) {
            let setup = SetupPacket(bmRequestType: 2, bRequest: 1, wValue: 0, wIndex: 0x81, wLength: 0)
            device.submit(TestURB.control(setup, pool: pool, handler: handler))
        }

        /// Returns when its own thread has done all that it was given.
        func settle() async { _ = await host.thread.run {} }

        func end() async {
            await device.close()
            events.stop()
            await events.end()
            #expect(host.table.inFlight == 0)
            #expect(device.inFlight == 0)
            #expect(pool.outstanding == 0)
        }
    }

    /// Short enough that a test may wait for it to pass.
    private static let brief = Duration.milliseconds(20)

    @Test func `Q30, Q32: a completion of A hangs; B goes on, and A's close isn't held up`() async throws {
        let isHanging = Inbox<Int>()
        let gate = Semaphore()
        let hanging = RecordingHandler { _ in
            isHanging.append(1)
            gate.wait()
        }
        let limits = HostDevice.Limits(cancel: Self.brief)
        let a = try Host("a", limits: limits, closeLimit: Self.brief)
        let b = try Host("b")
        a.read(hanging)
        a.complete()
        await isHanging.wait(for: 1)

        let handler = RecordingHandler()
        for count in 1...100 {
            b.read(handler)
            b.complete()
            await handler.wait(for: count)
        }
        #expect(handler.completions.allSatisfy { $0.status == .success })
        // Quarantine of A: it comes back, though the completion doesn't. Its interfaces aren't given back.
        a.device.disconnect()
        await a.device.close()
        #expect(a.host.table.inFlight == 1)
        #expect(a.port.calls == ["claim 0"])
        b.read(handler)
        b.complete()
        await handler.wait(for: 101)
        await b.end()

        gate.post()
        await hanging.wait(for: 1)
        a.events.stop()
        await a.events.end()
        #expect(a.device.inFlight == 0)
        #expect(a.pool.outstanding == 0)
    }

    @Test func `Q31: while the kernel clears a halt of A, who submits there and cancels doesn't wait`() async throws {
        let a = try Host("a")
        let gate = Semaphore()
        let handler = RecordingHandler()
        a.port.hold("halt 129", until: gate)
        a.clearHalt(handler)
        // These return, though A's thread doesn't.
        let token = a.read(handler, context: 1)
        a.read(handler, context: 2)
        a.device.cancel(token)
        #expect(a.host.table.inFlight == 0)
        #expect(handler.completions.isEmpty)
        gate.post()
        await handler.wait(for: 2)
        await a.settle()
        #expect(handler.completions.map(\.status) == [.success, .cancelled])
        a.complete()
        await handler.wait(for: 3)
        #expect(handler.completions.last?.context == 2)
        // Nothing is left on the way: the next goes straight to libusb.
        #expect(a.host.waiting.load(ordering: .relaxed) == 0)
        a.read(handler)
        #expect(a.host.table.inFlight == 1)
        await a.end()
    }

    @Test func `Q33, Q34: the kernel doesn't let go of A's thread; reset and close return all the same`() async throws {
        let limits = HostDevice.Limits(cancel: Self.brief, reset: Self.brief, close: Self.brief)
        let a = try Host("a", limits: limits, closeLimit: Self.brief)
        let gate = Semaphore()
        let handler = RecordingHandler()
        a.port.hold("halt 129", until: gate)
        a.clearHalt(handler)
        await #expect { try await a.device.reset() } throws: { ($0 as? USBError)?.code == .timedOut }
        a.device.disconnect()
        await a.device.close()
        #expect(!a.port.calls.contains("release 0"))
        // The kernel lets go at last: the URB ends, and the device is given back.
        gate.post()
        await a.host.thread.end()
        #expect(handler.completions.map(\.status) == [.success])
        #expect(a.port.calls.suffix(2) == ["release 0", "attach 0"])
        #expect(a.device.inFlight == 0)
        #expect(a.pool.outstanding == 0)
        a.events.stop()
    }

    @Test func `Q34, C45: a submit that doesn't return holds up no close`() async throws {
        let gate = Semaphore()
        let isInside = Inbox<Int>()
        let carrier = FakeCarrier(endsOnCancel: false)
        carrier.state.withLock { state in
            state.duringSubmit = {
                isInside.append(1)
                gate.wait()
            }
        }
        let table = TransferTable { _ in carrier }
        let port = FakePort()
        let limits = HostDevice.Limits(cancel: Self.brief)
        let claim = HostClaim(driven: [], configurationValue: 1)
        let descriptors = try SampleDevice.zero()
        let host = try HostDevice(descriptors, port: port, claim: claim, table: table, limits: limits)
        let pool = BufferPool()
        let device = VirtualDevice(
            backend: host, descriptors: descriptors, speed: .high, configurationValue: 1, pool: pool,
            closeLimit: Self.brief)
        let handler = RecordingHandler()
        let front = try SerialThread(name: "front")
        front.enqueue {
            device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler))
        }
        await isInside.wait(for: 1)
        await device.close()
        gate.post()
        front.stop()
        await front.end()
        carrier.complete(nil)
        await handler.wait(for: 1)
        #expect(handler.completions.map(\.status) == [.noDevice])
        #expect(device.inFlight == 0)
        #expect(pool.outstanding == 0)
    }

    @Test func `Q35: what waits behind a SET_INTERFACE of its endpoint isn't for the new setting`() async throws {
        let a = try Host("a")
        let gate = Semaphore()
        let handler = RecordingHandler()
        a.port.hold("alternate 0 1", until: gate)
        let setup = SetupPacket(bmRequestType: 1, bRequest: 11, wValue: 1, wIndex: 0, wLength: 0)
        a.device.submit(TestURB.control(setup, pool: a.pool, handler: handler))
        a.read(handler)
        gate.post()
        await handler.wait(for: 2)
        #expect(handler.completions.map(\.status) == [.success, .shutdown])
        a.read(handler)
        a.complete()
        await handler.wait(for: 3)
        #expect(handler.completions.last?.status == .success)
        await a.end()
    }

    @Test func `Q36: a device that isn't open in time is an error, and its thread holds up nobody`() async throws {
        let tree = try FixtureTree()
        try tree.addDevice("1-1", device: 2)
        guard case .device(let record)? = SysfsEnumerator(root: tree.paths.sysfsDevices).finding(named: "1-1") else {
            Issue.record("no fixture")
            return
        }
        // Whoever reads from this waits, as in the kernel.
        let node = tree.root + "/dev/001/002"
        tree.remove("dev/001/002")
        try #require(unsafe mkfifo(node, 0o600) == 0)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let source = HostSource(paths: tree.paths, openLimit: Self.brief, logger: logger)
        _ = try source.start()
        await #expect { _ = try await source.open(record, isForced: false) } throws: {
            ($0 as? USBError)?.code == .timedOut
        }
        await source.stop()
        // As many bytes as it reads at most: its thread ends.
        let fifo = try OwnedDescriptor(path: node, flags: O_RDWR)
        let bytes = [UInt8](repeating: 0, count: 4096)
        for _ in 0...16 {
            try #require(unsafe bytes.withUnsafeBytes { unsafe write(fifo.rawValue, $0.baseAddress, $0.count) } == 4096)
        }
    }

    @Test func `Q30: libusb contexts begin and end while the events of another one hang`() async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        var a: HostContext? = try HostContext(name: "a", logger: logger)
        let thread = try #require(a).thread
        let raw = unsafe try #require(a).raw
        // As a callback that doesn't return: nobody else handles this context's events.
        while unsafe libusb_try_lock_events(raw) != 0 {
            unsafe libusb_interrupt_event_handler(raw)
            Threads.yield()
        }
        for _ in 0..<10 {
            var b: HostContext? = try HostContext(name: "b", logger: logger)
            let thread = try #require(b).thread
            b = nil
            await thread.end()
        }
        unsafe libusb_unlock_events(raw)
        a = nil
        await thread.end()
    }
}
