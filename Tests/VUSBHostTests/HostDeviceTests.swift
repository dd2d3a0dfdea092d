// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

@Suite struct HostDeviceTests {
    let factory = CarrierFactory()
    let port = FakePort()
    let pool = BufferPool()
    let handler = RecordingHandler()
    let host: HostDevice
    let device: VirtualDevice

    init() throws {
        let descriptors = try SampleDevice.zero()
        var claim = HostClaim(driven: [0], configurationValue: 1)
        try claim.take([0], through: port)
        host = try HostDevice(descriptors, port: port, claim: claim, table: factory.makeTable())
        device = SampleDevice.attach(host, descriptors: descriptors, pool: pool)
    }

    private func read() {
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 64, pool: pool, handler: handler, context: 1))
    }

    private func request(_ type: UInt8, _ request: UInt8, _ value: UInt16, _ index: UInt16 = 0) async -> URBStatus? {
        let handler = RecordingHandler()
        let setup = SetupPacket(bmRequestType: type, bRequest: request, wValue: value, wIndex: index, wLength: 0)
        device.submit(TestURB.control(setup, pool: pool, handler: handler))
        return await handler.wait(for: 1).first?.status
    }

    private func end() async {
        await device.close()
        #expect(host.table.inFlight == 0)
        #expect(device.inFlight == 0)
        #expect(pool.outstanding == 0)
    }

    @Test func `SET_CONFIGURATION ends what is in flight, lets go of the interfaces and claims them again`() async {
        read()
        #expect(await request(0, StandardRequest.setConfiguration, 1) == .success)
        #expect(handler.completions.map(\.status) == [.shutdown])
        #expect(port.calls == ["claim 0", "release 0", "configuration 1", "claim 0"])
        await end()
        #expect(port.calls.suffix(2) == ["release 0", "attach 0"])
    }

    @Test func `an unconfigured device is given back as it was found`() async {
        #expect(await request(0, StandardRequest.setConfiguration, 0) == .success)
        await end()
        #expect(port.calls == ["claim 0", "release 0", "configuration -1", "configuration 1"])
    }

    @Test func `a SET_CONFIGURATION that fails leaves the interfaces ours`() async {
        port.answer("configuration 1", LIBUSB_ERROR_BUSY.rawValue)
        #expect(await request(0, StandardRequest.setConfiguration, 1) == .busy)
        #expect(port.calls == ["claim 0", "release 0", "configuration 1", "claim 0"])
        await end()
    }

    @Test func `SET_INTERFACE ends what is in flight there, and the new endpoints serve`() async throws {
        read()
        #expect(await request(1, StandardRequest.setInterface, 2) == .success)
        #expect(handler.completions.map(\.status) == [.shutdown])
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x85), count: 8, pool: pool, handler: handler))
        factory.carriers.first { $0.state.withLock { $0.isSubmitted } }?.complete((.success, 8))
        #expect(handler.completions.map(\.status) == [.shutdown, .success])
        await end()
    }

    @Test func `an alternate setting that the kernel doesn't know is a stall`() async {
        port.answer("alternate 0 1", LIBUSB_ERROR_NOT_FOUND.rawValue)
        #expect(await request(1, StandardRequest.setInterface, 1) == .stall)
        await end()
    }

    @Test func `CLEAR_HALT is libusb's, which knows the toggle`() async {
        #expect(await request(2, StandardRequest.clearFeature, 0, 0x81) == .success)
        #expect(port.calls.last == "halt 129")
        await end()
    }

    @Test func `a reset ends what is in flight and restores the alternate settings`() async throws {
        #expect(await request(1, StandardRequest.setInterface, 1) == .success)
        read()
        try await device.reset()
        #expect(handler.completions.map(\.status) == [.shutdown])
        #expect(port.calls.suffix(3) == ["alternate 0 1", "reset", "alternate 0 1"])
        read()
        factory.carriers.first { $0.state.withLock { $0.isSubmitted } }?.complete((.success, 1))
        #expect(handler.completions.last?.status == .success)
        await end()
    }

    @Test(arguments: [LIBUSB_ERROR_NOT_FOUND.rawValue, LIBUSB_ERROR_NO_DEVICE.rawValue])
    func `a device that is another one after its reset is gone`(code: Int32) async {
        port.answer("reset", code)
        await #expect { try await device.reset() } throws: { ($0 as? USBError)?.code == .gone }
        read()
        #expect(handler.completions.map(\.status) == [.noDevice])
        await end()
    }

    @Test func `a reset that fails leaves the device usable`() async {
        port.answer("reset", LIBUSB_ERROR_OTHER.rawValue)
        await #expect { try await device.reset() } throws: { ($0 as? USBError)?.code == .io }
        read()
        #expect(host.table.inFlight == 1)
        await end()
    }

    @Test func `close cancels, gives back, and refuses from then on`() async {
        read()
        await end()
        #expect(handler.completions.count == 1)
        #expect(port.calls == ["claim 0", "release 0", "attach 0"])
        // A front that is late meets the backend's own end, not libusb.
        host.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler))
        #expect(handler.completions.last?.status == .noDevice)
        await #expect { try await host.reset() } throws: { ($0 as? USBError)?.code == .gone }
        #expect(pool.outstanding == 0)
    }

    @Test func `streams of an endpoint that has none are refused`() async {
        var urb = TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler)
        urb.streamID = 1
        device.submit(urb)
        #expect(await handler.wait(for: 1).first?.status == .invalid)
        await end()
    }
}

@Suite struct HostClaimTests {
    @Test func `a device with an interface that can't be had is as it was before`() {
        let port = FakePort()
        port.answer("claim 2", LIBUSB_ERROR_BUSY.rawValue)
        var claim = HostClaim(driven: [0, 2], configurationValue: 1)
        #expect(throws: HostClaim.Failure.self) { try claim.take([0, 1, 2], through: port) }
        claim.giveBack(through: port, currentConfiguration: 1)
        #expect(
            port.calls == ["claim 0", "claim 1", "claim 2", "release 1", "release 0", "attach 0", "attach 2"]
        )
        #expect(claim.held.isEmpty)
    }
}
