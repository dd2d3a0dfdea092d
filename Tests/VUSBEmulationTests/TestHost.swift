// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

/// An emulated device and a host that drives it through `VirtualDevice`, as a front does for its guest.
struct TestHost {
    let pool: BufferPool
    let source: EmulationSource
    let record: DeviceRecord
    let device: VirtualDevice

    init(_ specification: String, source: EmulationSource = EmulationSource()) async throws {
        pool = BufferPool()
        self.source = source
        record = try #require(try source.add(EmulationSpecification(parsing: specification)).first)
        device = try await Self.open(record, source, pool)
    }

    /// Opens a device that a source has already.
    init(opening record: DeviceRecord, _ source: EmulationSource) async throws {
        pool = BufferPool()
        self.source = source
        self.record = record
        device = try await Self.open(record, source, pool)
    }

    private static func open(
        _ record: DeviceRecord,
        _ source: EmulationSource,
        _ pool: BufferPool
    ) async throws -> VirtualDevice {
        let opened = try await source.open(record, isForced: false)
        return VirtualDevice(
            backend: opened.backend,
            descriptors: record.descriptors,
            speed: record.speed,
            configurationValue: opened.configurationValue,
            alternates: opened.alternates,
            pool: pool
        )
    }

    /// Detaches, and checks that nothing was lost on the way.
    func close(_ location: SourceLocation = #_sourceLocation) async {
        await device.close()
        #expect(device.inFlight == 0, sourceLocation: location)
        #expect(pool.outstanding == 0, sourceLocation: location)
    }

    // MARK: - Transfers

    @discardableResult
    func control(
        _ bmRequestType: UInt8,
        _ bRequest: UInt8,
        _ wValue: UInt16 = 0,
        _ wIndex: UInt16 = 0,
        length: Int? = nil,
        data: [UInt8] = []
    ) async -> Completion {
        let handler = RecordingHandler()
        let setup = SetupPacket(
            bmRequestType: bmRequestType,
            bRequest: bRequest,
            wValue: wValue,
            wIndex: wIndex,
            wLength: UInt16(length ?? data.count)
        )
        device.submit(TestURB.control(setup, data: data, pool: pool, handler: handler))
        return await handler.wait(for: 1)[0]
    }

    func descriptor(_ type: UInt8, _ index: UInt8 = 0, language: UInt16 = 0, length: Int = 1024) async -> Completion {
        await control(0x80, StandardRequest.getDescriptor, UInt16(type) << 8 | UInt16(index), language, length: length)
    }

    func receive(_ endpoint: UInt8, _ count: Int) async -> Completion {
        let (handler, _) = startReceive(endpoint, count)
        return await handler.wait(for: 1)[0]
    }

    @discardableResult
    func send(_ endpoint: UInt8, _ bytes: [UInt8]) async -> Completion {
        let (handler, _) = startSend(endpoint, bytes)
        return await handler.wait(for: 1)[0]
    }

    func startReceive(_ endpoint: UInt8, _ count: Int) -> (RecordingHandler, URBToken) {
        let handler = RecordingHandler()
        let address = EndpointAddress(rawValue: endpoint)
        return (handler, device.submit(TestURB.in(address, count: count, pool: pool, handler: handler)))
    }

    func startSend(_ endpoint: UInt8, _ bytes: [UInt8]) -> (RecordingHandler, URBToken) {
        let handler = RecordingHandler()
        let address = EndpointAddress(rawValue: endpoint)
        return (handler, device.submit(TestURB.out(address, bytes, pool: pool, handler: handler)))
    }

    func isochronous(_ endpoint: UInt8, _ lengths: [UInt32]) async -> Completion {
        let handler = RecordingHandler()
        let address = EndpointAddress(rawValue: endpoint)
        device.submit(TestURB.isochronous(address, lengths: lengths, pool: pool, handler: handler))
        return await handler.wait(for: 1)[0]
    }

    // MARK: - Halts

    func halt(_ endpoint: UInt8) async -> Completion {
        await control(0x02, StandardRequest.setFeature, StandardFeature.endpointHalt, UInt16(endpoint))
    }

    @discardableResult
    func clearHalt(_ endpoint: UInt8) async -> Completion {
        await control(0x02, StandardRequest.clearFeature, StandardFeature.endpointHalt, UInt16(endpoint))
    }

    func isHalted(_ endpoint: UInt8) async -> Bool {
        await control(0x82, StandardRequest.getStatus, 0, UInt16(endpoint), length: 2).bytes == [1, 0]
    }

    @discardableResult
    func setInterface(_ number: UInt16, _ alternate: UInt16) async -> Completion {
        await control(0x01, StandardRequest.setInterface, alternate, number)
    }
}
