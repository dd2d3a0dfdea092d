// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

/// A Gadget Zero over a scripted backend, as an attachment has it.
struct Rig: Sendable {
    let backend: ScriptedBackend
    let pool = BufferPool()
    let device: VirtualDevice
    let handler: RecordingHandler

    init(
        _ backend: ScriptedBackend, handler: RecordingHandler = RecordingHandler(), lane: BusLane? = nil,
        health: DeviceHealth? = nil
    ) throws {
        self.backend = backend
        self.handler = handler
        device = SampleDevice.attach(
            backend, descriptors: try SampleDevice.zero(), pool: pool, lane: lane, health: health)
    }

    /// 64 bytes from 0x81.
    @discardableResult
    func submitIn(_ endpoint: UInt8 = 0x81, count: Int = 64, context: UInt64 = 0) -> URBToken {
        device.submit(
            TestURB.in(
                EndpointAddress(rawValue: endpoint),
                count: count,
                pool: pool,
                handler: handler,
                context: context
            )
        )
    }

    @discardableResult
    func control(_ setup: SetupPacket, data: [UInt8] = []) -> URBToken {
        device.submit(TestURB.control(setup, data: data, pool: pool, handler: handler))
    }

    var statuses: [URBStatus] { handler.completions.map(\.status) }

    /// What holds at the end of every test.
    func expectAtRest(sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(backend.verify() == [], sourceLocation: sourceLocation)
        #expect(device.inFlight == 0, sourceLocation: sourceLocation)
        #expect(pool.outstanding == 0, sourceLocation: sourceLocation)
    }
}

/// Something that a closure needs and that is made after it.
final class Later<Value: Sendable>: Sendable {
    private let slot = Mutex<Value?>(nil)
    var value: Value? {
        get { slot.withLock { $0 } }
        set { slot.withLock { $0 = newValue } }
    }
}

extension SetupPacket {
    static func setConfiguration(_ value: UInt8) -> SetupPacket {
        SetupPacket(bmRequestType: 0, bRequest: 9, wValue: UInt16(value), wIndex: 0, wLength: 0)
    }

    static func setInterface(_ interface: UInt16, alternate: UInt16) -> SetupPacket {
        SetupPacket(bmRequestType: 1, bRequest: 11, wValue: alternate, wIndex: interface, wLength: 0)
    }

    static func clearHalt(_ endpoint: UInt16) -> SetupPacket {
        SetupPacket(bmRequestType: 2, bRequest: 1, wValue: 0, wIndex: endpoint, wLength: 0)
    }
}
