// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// What `VirtualDevice.submit` refuses, and what it makes of the requests that it intercepts. The script has what gets
/// through: nothing, where a URB is refused.
@Suite("What a guest may submit")
struct URBCheckTests {
    private static let bulkIn = EndpointAddress(rawValue: 0x81)

    private func expect(
        _ status: URBStatus,
        script: [ScriptedBackend.Record] = [],
        alternate: UInt8 = 0,
        sourceLocation: SourceLocation = #_sourceLocation,
        _ make: (Rig) -> URB
    ) throws {
        let prologue: [ScriptedBackend.Record] = alternate == 0 ? [] : [.submit(.any, .complete())]
        let rig = try Rig(ScriptedBackend(prologue + script))
        if alternate != 0 { rig.control(.setInterface(0, alternate: UInt16(alternate))) }
        let urb = make(rig)
        rig.device.submit(urb)
        #expect(rig.handler.completions.last?.status == status, sourceLocation: sourceLocation)
        rig.expectAtRest(sourceLocation: sourceLocation)
    }

    // MARK: - Refusals

    @Test func lengthBeyondTheBuffer() throws {
        try expect(.invalid) { rig in
            URB(
                endpoint: Self.bulkIn,
                buffer: rig.pool.take(1),
                requestedLength: 4097,
                handler: rig.handler,
                context: 0
            )
        }
        try expect(.invalid) { rig in
            URB(endpoint: Self.bulkIn, buffer: nil, requestedLength: 1, handler: rig.handler, context: 0)
        }
    }

    @Test func negativeLength() throws {
        try expect(.invalid) { rig in
            URB(endpoint: Self.bulkIn, buffer: nil, requestedLength: -1, handler: rig.handler, context: 0)
        }
    }

    @Test(arguments: [0x01, 0x82, 0x83, 0x85, 0x8f] as [UInt8])
    func endpointThatIsNotThere(endpoint: UInt8) throws {
        try expect(.noEndpoint) { rig in
            TestURB.in(EndpointAddress(rawValue: endpoint), count: 8, pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func setupPacketOnABulkEndpoint() throws {
        try expect(.invalid) { rig in
            URB(
                endpoint: Self.bulkIn,
                setup: .setConfiguration(1),
                buffer: nil,
                requestedLength: 0,
                handler: rig.handler,
                context: 0
            )
        }
    }

    @Test func controlTransferWithoutSetupPacket() throws {
        try expect(.invalid) { rig in
            URB(endpoint: .control, buffer: nil, requestedLength: 0, handler: rig.handler, context: 0)
        }
    }

    @Test(arguments: [0, 17, 19])
    func setupPacketThatDisagreesWithItsData(count: Int) throws {
        try expect(.invalid) { rig in
            URB(
                endpoint: .control,
                setup: SetupPacket(bmRequestType: 0x80, bRequest: 6, wValue: 0x100, wIndex: 0, wLength: 18),
                buffer: rig.pool.take(64),
                requestedLength: count,
                handler: rig.handler,
                context: 0
            )
        }
    }

    @Test func streamOfAnInterruptEndpoint() throws {
        try expect(.invalid, alternate: 2) { rig in
            var urb = TestURB.in(EndpointAddress(rawValue: 0x85), count: 8, pool: rig.pool, handler: rig.handler)
            urb.streamID = 1
            return urb
        }
    }

    @Test func packetsOfABulkTransfer() throws {
        try expect(.invalid) { rig in
            TestURB.isochronous(Self.bulkIn, lengths: [64], pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func isochronousTransferWithoutPackets() throws {
        try expect(.invalid, alternate: 1) { rig in
            TestURB.in(EndpointAddress(rawValue: 0x83), count: 1024, pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func isochronousPacketBeyondTheInterval() throws {
        try expect(.invalid, alternate: 1) { rig in
            TestURB.isochronous(
                EndpointAddress(rawValue: 0x83),
                lengths: [1024, 1025],
                pool: rig.pool,
                handler: rig.handler
            )
        }
    }

    @Test(arguments: [
        IsoPacket(offset: 1, length: 64), IsoPacket(offset: .max, length: 1), IsoPacket(offset: 65, length: 0),
    ])
    func isochronousPacketBeyondTheTransfer(packet: IsoPacket) throws {
        try expect(.invalid, alternate: 1) { rig in
            var urb = TestURB.isochronous(
                EndpointAddress(rawValue: 0x83),
                lengths: [64],
                pool: rig.pool,
                handler: rig.handler
            )
            urb.packets?[0] = packet
            return urb
        }
    }

    @Test func controlEndpointOtherThanZero() throws {
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device()
                + DescriptorBytes.configuration([
                    DescriptorBytes.interface(0, endpoints: 1),
                    DescriptorBytes.endpoint(0x01, .control, maxPacketSize: 64),
                ])
        )
        let backend = ScriptedBackend()
        let pool = BufferPool()
        let handler = RecordingHandler()
        let device = SampleDevice.attach(backend, descriptors: descriptors, pool: pool)
        device.submit(TestURB.out(EndpointAddress(rawValue: 1), [1], pool: pool, handler: handler))
        #expect(handler.completions.map(\.status) == [.notSupported])
        #expect(backend.verify() == [])
    }

    @Test func unconfiguredDeviceHasOnlyEndpointZero() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .complete()), .submit(.any, .complete(data: [0]))]))
        rig.control(.setConfiguration(0))
        rig.submitIn()
        rig.control(SetupPacket(bmRequestType: 0x80, bRequest: 8, wValue: 0, wIndex: 0, wLength: 1))
        #expect(rig.statuses == [.success, .noEndpoint, .success])
        rig.expectAtRest()
    }

    // MARK: - What gets through

    @Test func everyTransferTypeIsNamedToTheBackend() throws {
        try expect(
            .success,
            script: [.submit(.operation(.transfer(.bulk)), .complete())]
        ) { rig in TestURB.in(Self.bulkIn, count: 64, pool: rig.pool, handler: rig.handler) }
        try expect(
            .success,
            script: [.submit(.operation(.transfer(.interrupt)), .complete())],
            alternate: 2
        ) { rig in TestURB.out(EndpointAddress(rawValue: 0x06), [1, 2], pool: rig.pool, handler: rig.handler) }
        try expect(
            .success,
            script: [.submit(.operation(.transfer(.isochronous)), .run { $0.completePackets(fill: 1) })],
            alternate: 1
        ) { rig in
            TestURB.isochronous(
                EndpointAddress(rawValue: 0x83),
                lengths: [1024, 0, 512],
                pool: rig.pool,
                handler: rig.handler
            )
        }
        try expect(
            .success,
            script: [.submit(.operation(.transfer(.control)), .complete(data: [1, 2]))]
        ) { rig in
            let setup = SetupPacket(bmRequestType: 0xc0, bRequest: 0x5c, wValue: 0, wIndex: 0, wLength: 65535)
            return TestURB.control(setup, pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func zeroLengthTransfersArePackets() throws {
        try expect(.success, script: [.submit(.out(0x02, []), .complete())]) { rig in
            TestURB.out(EndpointAddress(rawValue: 0x02), [], pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func bytesGoOutUnchanged() throws {
        let bytes = (0..<513).map { UInt8(truncatingIfNeeded: $0) }
        let rig = try Rig(ScriptedBackend([.submit(.out(0x02, bytes), .complete())]))
        rig.device.submit(
            TestURB.out(EndpointAddress(rawValue: 0x02), bytes, pool: rig.pool, handler: rig.handler)
        )
        #expect(rig.handler.completions.first?.bytes == bytes)
        #expect(rig.device.counters.bytesOut == 513)
        rig.expectAtRest()
    }

    @Test func isochronousPacketsKeepTheirResults() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .complete()), .submit(.any, .hold)]))
        rig.control(.setInterface(0, alternate: 1))
        rig.device.submit(
            TestURB.isochronous(
                EndpointAddress(rawValue: 0x83),
                lengths: [100, 200],
                pool: rig.pool,
                handler: rig.handler
            )
        )
        rig.backend.held[0].completePackets(fill: 7)
        let completion = try #require(rig.handler.completions.last)
        #expect(completion.packets.map(\.actualLength) == [100, 200])
        #expect(completion.packets.map(\.offset) == [0, 100])
        #expect(completion.bytes == Array(repeating: 7, count: 300))
        rig.expectAtRest()
    }

    // MARK: - Intercepted requests

    @Test func setAddressIsAnsweredHere() throws {
        try expect(.success) { rig in
            let setup = SetupPacket(bmRequestType: 0, bRequest: 5, wValue: 42, wIndex: 0, wLength: 0)
            return TestURB.control(setup, pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func setConfigurationBecomesAnOperation() throws {
        try expect(.success, script: [.submit(.operation(.setConfiguration(1)), .complete())]) { rig in
            TestURB.control(.setConfiguration(1), pool: rig.pool, handler: rig.handler)
        }
        try expect(.stall) { rig in
            TestURB.control(.setConfiguration(2), pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func setInterfaceBecomesAnOperation() throws {
        let operation = URB.Operation.setInterface(InterfaceNumber(rawValue: 0), alternate: 2)
        try expect(.success, script: [.submit(.operation(operation), .complete())]) { rig in
            TestURB.control(.setInterface(0, alternate: 2), pool: rig.pool, handler: rig.handler)
        }
    }

    @Test(arguments: [(0, 3), (1, 0), (256, 0), (0, 256), (0xffff, 0xffff)] as [(UInt16, UInt16)])
    func settingThatIsNotThereStalls(interface: UInt16, alternate: UInt16) throws {
        try expect(.stall) { rig in
            TestURB.control(.setInterface(interface, alternate: alternate), pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func clearHaltBecomesAnOperation() throws {
        try expect(.success, script: [.submit(.operation(.clearHalt(Self.bulkIn)), .complete())]) { rig in
            TestURB.control(.clearHalt(0x81), pool: rig.pool, handler: rig.handler)
        }
        try expect(.stall) { rig in TestURB.control(.clearHalt(0x83), pool: rig.pool, handler: rig.handler) }
    }

    @Test func clearHaltOfEndpointZeroIsTheDevices() throws {
        try expect(.success, script: [.submit(.operation(.transfer(.control)), .complete())]) { rig in
            TestURB.control(.clearHalt(0), pool: rig.pool, handler: rig.handler)
        }
    }

    @Test func otherFeaturesAreTheDevices() throws {
        let setup = SetupPacket(bmRequestType: 0, bRequest: 1, wValue: 1, wIndex: 0, wLength: 0)
        try expect(.success, script: [.submit(.control(setup), .complete())]) { rig in
            TestURB.control(setup, pool: rig.pool, handler: rig.handler)
        }
    }

    @Test(
        "An intercepted request with a data stage, or the wrong way round, stalls",
        arguments: [
            SetupPacket(bmRequestType: 0x80, bRequest: 9, wValue: 1, wIndex: 0, wLength: 8),
            SetupPacket(bmRequestType: 0x80, bRequest: 9, wValue: 1, wIndex: 0, wLength: 0),
            SetupPacket(bmRequestType: 0x00, bRequest: 9, wValue: 1, wIndex: 0, wLength: 8),
            SetupPacket(bmRequestType: 0x81, bRequest: 11, wValue: 1, wIndex: 0, wLength: 8),
            SetupPacket(bmRequestType: 0x02, bRequest: 1, wValue: 0, wIndex: 0x81, wLength: 1),
            SetupPacket(bmRequestType: 0x80, bRequest: 5, wValue: 1, wIndex: 0, wLength: 64),
        ]
    )
    func malformedRequests(setup: SetupPacket) throws {
        try expect(.stall) { rig in TestURB.control(setup, pool: rig.pool, handler: rig.handler) }
    }

    @Test(
        "A standard request that changes settings stalls where it's for another recipient than its own",
        arguments: [(5, 0), (9, 0), (11, 1)] as [(UInt8, UInt8)],
        [0, 1, 2, 3, 31] as [UInt8]
    )
    func requestForAnotherRecipient(request: (number: UInt8, recipient: UInt8), recipient: UInt8) throws {
        guard recipient != request.recipient else { return }
        for direction: UInt8 in [0x00, 0x80] {
            for length: UInt16 in [0, 8] {
                let setup = SetupPacket(
                    bmRequestType: direction | recipient,
                    bRequest: request.number,
                    wValue: 1,
                    wIndex: 0,
                    wLength: length
                )
                try expect(.stall) { rig in
                    let data = [UInt8](repeating: 0, count: direction == 0 ? Int(length) : 0)
                    return TestURB.control(setup, data: data, pool: rig.pool, handler: rig.handler)
                }
            }
        }
    }

    @Test("Class and vendor requests of the same numbers are the device's", arguments: [5, 9, 11] as [UInt8])
    func classRequestsOfTheSameNumbers(request: UInt8) throws {
        for type: UInt8 in [0x20, 0x21, 0x22, 0x40, 0x41, 0x43] {
            let setup = SetupPacket(bmRequestType: type, bRequest: request, wValue: 1, wIndex: 0, wLength: 0)
            try expect(.success, script: [.submit(.control(setup), .complete())]) { rig in
                TestURB.control(setup, pool: rig.pool, handler: rig.handler)
            }
        }
    }

    // MARK: - Completion

    @Test func shortInTransferThatMayNotBe() throws {
        try expect(.shortNotOK, script: [.submit(.any, .complete(data: [1]))]) { rig in
            var urb = TestURB.in(Self.bulkIn, count: 64, pool: rig.pool, handler: rig.handler)
            urb.flags = .shortNotOK
            return urb
        }
    }

    @Test(arguments: [-1, 65, Int.max, Int.min])
    func actualLengthIsClamped(length: Int) throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .complete(actualLength: length))]))
        rig.submitIn(count: 64)
        #expect(rig.handler.completions.map(\.actualLength) == [length > 0 ? 64 : 0])
        rig.expectAtRest()
    }

    @Test func countersFollowTheCompletions() throws {
        let rig = try Rig(
            ScriptedBackend([
                .submit(.any, .complete(data: [1, 2, 3])), .submit(.any, .complete()), .submit(.any, .complete(.stall)),
            ])
        )
        rig.submitIn()
        rig.device.submit(
            TestURB.out(EndpointAddress(rawValue: 0x02), [1, 2], pool: rig.pool, handler: rig.handler)
        )
        rig.submitIn()
        let counters = rig.device.counters
        #expect(counters.completedURBs == 3)
        #expect(counters.failedURBs == 1)
        #expect(counters.bytesIn == 3)
        #expect(counters.bytesOut == 2)
        rig.expectAtRest()
    }
}
