// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

/// Bulk streams, as a disk with UAS has them: data both ways and status have 16, the command pipe has none.
@Suite struct HostStreamsTests {
    private static let dataIn = EndpointAddress(rawValue: 0x81)
    private static let status = EndpointAddress(rawValue: 0x83)
    private static let command = EndpointAddress(rawValue: 0x04)
    private static let call = "streams 16 [129, 2, 131]"

    let factory = CarrierFactory()
    let port = FakePort()
    let pool = BufferPool()
    let handler = RecordingHandler()
    let host: HostDevice
    let device: VirtualDevice

    init() throws {
        let streaming = DescriptorBytes.companion(attributes: 4)
        let bytes =
            DescriptorBytes.device(bcdUSB: 0x0300, maxPacketSize0: 9)
            + DescriptorBytes.configuration([
                DescriptorBytes.interface(0, endpoints: 4, class: 8),
                DescriptorBytes.endpoint(0x81, maxPacketSize: 1024), streaming,
                DescriptorBytes.endpoint(0x02, maxPacketSize: 1024), streaming,
                DescriptorBytes.endpoint(0x83, maxPacketSize: 1024), streaming,
                DescriptorBytes.endpoint(0x04, maxPacketSize: 1024), DescriptorBytes.companion(),
            ])
        let descriptors = try Descriptors(parsing: bytes)
        let claim = HostClaim(driven: [], configurationValue: 1)
        host = try HostDevice(descriptors, port: port, claim: claim, table: factory.makeTable())
        device = SampleDevice.attach(host, descriptors: descriptors, speed: .super, pool: pool)
    }

    @discardableResult
    private func submit(_ endpoint: EndpointAddress, stream: UInt16) -> URBToken {
        var urb =
            endpoint.direction == .in
            ? TestURB.in(endpoint, count: 1024, pool: pool, handler: handler)
            : TestURB.out(endpoint, [UInt8](repeating: 0, count: 32), pool: pool, handler: handler)
        urb.streamID = stream
        return device.submit(urb)
    }

    /// Returns when the device's thread has done all that it was given.
    private func settle() async { _ = await host.thread.run {} }

    private func end() async {
        await device.close()
        #expect(host.table.inFlight == 0)
        #expect(device.inFlight == 0)
        #expect(pool.outstanding == 0)
    }

    @Test func `the first transfer with a stream makes all that its interface has, once`() async {
        port.answer(Self.call, 16)
        submit(Self.status, stream: 1)
        submit(Self.dataIn, stream: 1)
        submit(Self.command, stream: 0)
        await settle()
        submit(Self.dataIn, stream: 16)
        #expect(port.calls == [Self.call])
        #expect(handler.completions.isEmpty)
        #expect(host.table.inFlight == 4)
        await end()
    }

    @Test func `a transfer behind one that waits for its streams waits too`() async {
        port.answer(Self.call, 16)
        let gate = Semaphore()
        host.thread.enqueue { gate.wait() }
        submit(Self.status, stream: 1)
        submit(Self.command, stream: 0)
        #expect(host.table.inFlight == 0)
        gate.post()
        await settle()
        // Were it submitted first, the making of the streams would have ended it.
        #expect(handler.completions.isEmpty)
        #expect(host.table.inFlight == 2)
        await end()
    }

    @Test func `a transfer that waits for its streams can be cancelled`() async {
        port.answer(Self.call, 16)
        let gate = Semaphore()
        host.thread.enqueue { gate.wait() }
        let token = submit(Self.status, stream: 1)
        device.cancel(token)
        gate.post()
        await settle()
        #expect(handler.completions.map(\.status) == [.cancelled])
        await end()
    }

    @Test func `a stream beyond those that the controller gave is refused`() async {
        port.answer(Self.call, 4)
        submit(Self.status, stream: 4)
        submit(Self.status, stream: 5)
        await settle()
        #expect(handler.completions.map(\.status) == [.invalid])
        #expect(host.table.inFlight == 1)
        await end()
    }

    @Test func `an endpoint without streams has none, and nothing is asked of the controller`() async {
        submit(Self.command, stream: 1)
        await settle()
        #expect(handler.completions.map(\.status) == [.invalid])
        #expect(port.calls.isEmpty)
        await end()
    }
}
