// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: transfers")
struct USBIPTransferTests {
    @Test("A1: control, bulk and interrupt go down, and their answers come back", arguments: [false, true])
    func kinds(isTCP: Bool) async throws {
        let vendor = SetupPacket(bmRequestType: 0xc0, bRequest: 7, wValue: 1, wIndex: 2, wLength: 4)
        let write = SetupPacket(bmRequestType: 0x40, bRequest: 8, wValue: 0, wIndex: 0, wLength: 3)
        let rig = try USBIPRig(
            ScriptedBackend([
                .submit(.control(vendor), .complete(data: [1, 2, 3])),
                .submit(.control(write, [7, 8, 9]), .complete()),
                .submit(.in(0x81, 512), .complete(data: [4, 5])),
                .submit(.out(0x02, [6, 7, 8]), .complete()),
                .submit(.in(0x85, 64), .complete(data: [9])),
                .submit(.out(0x06, [1]), .complete()),
            ]), isTCP: isTCP)
        let peer = try await rig.connect()
        let wire = peer.wire
        peer.send(wire.control(1, vendor))
        #expect(await peer.next() == .done(1, [1, 2, 3]))
        peer.send(wire.control(2, write, [7, 8, 9]))
        #expect(await peer.next() == .done(2, length: 3))
        peer.send(wire.bulkIn(3, 512))
        #expect(await peer.next() == .done(3, [4, 5]))
        peer.send(wire.bulkOut(4, [6, 7, 8]))
        #expect(await peer.next() == .done(4, length: 3))
        peer.send(wire.bulkIn(5, 64, endpoint: 5))
        #expect(await peer.next() == .done(5, [9]))
        peer.send(wire.bulkOut(6, [1], endpoint: 6))
        #expect(await peer.next() == .done(6, length: 1))
        await rig.finish(peer)
    }

    @Test("A1: what other threads complete is answered in the order of the ends")
    func order() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        for seqnum in 1...3 as ClosedRange<UInt32> { peer.send(peer.wire.bulkIn(seqnum, 512)) }
        let held = await rig.held(3, afterCalls: 3)
        for (index, urb) in held.enumerated().reversed() { urb.complete(data: [UInt8(index)]) }
        #expect(await peer.next(3) == [.done(3, [2]), .done(2, [1]), .done(1, [0])])
        await rig.finish(peer)
    }

    @Test("A1: data of any size arrive whole, both ways", arguments: [1, 4096, 8191, 8192, 65536, 1 << 20, 3 << 20])
    func sizes(count: Int) async throws {
        let data = usbipPattern(count)
        let rig = try USBIPRig(
            ScriptedBackend([
                .submit(.out(0x02, data), .complete()), .submit(.in(0x81, count), .complete(data: data)),
                .submit(.in(0x81, count), .complete(data: Array(data.prefix(count / 2)))),
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkOut(1, data))
        #expect(await peer.next() == .done(1, length: count))
        peer.send(peer.wire.bulkIn(2, count))
        #expect(await peer.next() == .done(2, data))
        // Nothing of the first is left in the second.
        peer.send(peer.wire.bulkIn(3, count))
        #expect(await peer.next() == .done(3, Array(data.prefix(count / 2))))
        await rig.finish(peer)
    }

    @Test(
        "a failed transfer tells its errno, and what has moved",
        arguments: [-32, -71, -75, -110, -62, -84, -5] as [Int32])
    func failures(status: Int32) async throws {
        let rig = try USBIPRig(
            ScriptedBackend([
                .submit(.any, .complete(URBStatus(rawValue: status), data: [1, 2])),
                .submit(.any, .complete(URBStatus(rawValue: status), actualLength: 1)),
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        #expect(await peer.next() == .done(1, [1, 2], status: status))
        peer.send(peer.wire.bulkOut(2, [1, 2, 3]))
        #expect(await peer.next() == .done(2, status, length: 1))
        await rig.finish(peer)
    }

    @Test("A2: short with SHORT_NOT_OK is -121, and its data come along")
    func shortNotOK() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete(data: [1, 2])))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64, flags: 1))
        #expect(await peer.next() == .done(1, [1, 2], status: -121))
        peer.send(peer.wire.bulkIn(2, 2, flags: 1))
        #expect(await peer.next() == .done(2, [1, 2]))
        peer.send(peer.wire.bulkIn(3, 64, flags: 0))
        #expect(await peer.next() == .done(3, [1, 2]))
        await rig.finish(peer)
    }

    @Test("A4, A5: zero packet is for OUT only, other flags are for nobody")
    func flags() throws {
        func flags(_ flags: UInt32, isIn: Bool) throws -> URB.Flags {
            let bytes = USBIPWire().submit(1, endpoint: 1, isIn: isIn, length: 0, flags: flags)
            return try USBIPSubmit(unsafe bytes.span.bytes, seqnum: 1).urbFlags
        }
        #expect(try flags(0x40, isIn: false) == .zeroPacket)
        #expect(try flags(0x40, isIn: true) == [])
        #expect(try flags(0x01, isIn: true) == .shortNotOK)
        #expect(try flags(0x41, isIn: false) == [.zeroPacket, .shortNotOK])
        #expect(try flags(0xffff_ffbe, isIn: false) == [])
    }

    @Test("A7: number_of_packets comes back as it was said", arguments: [0, 0xffff_ffff] as [UInt32])
    func packetCount(count: UInt32) async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete(data: [1])))
        let peer = try await rig.connect()
        peer.send(peer.wire.submit(1, endpoint: 1, isIn: true, length: 8, packets: count))
        #expect(await peer.next() == .done(1, [1], packetCount: count))
        await rig.finish(peer)
    }

    @Test("A8: settings and halts go through the device's own requests")
    func settings() async throws {
        let rig = try USBIPRig(
            ScriptedBackend([
                .submit(.operation(.setInterface(InterfaceNumber(rawValue: 0), alternate: 1)), .complete()),
                .submit(.operation(.clearHalt(EndpointAddress(rawValue: 0x81))), .complete()),
                .submit(.operation(.setConfiguration(0)), .complete()),
            ]))
        let peer = try await rig.connect()
        let requests = [
            SetupPacket(bmRequestType: 1, bRequest: 11, wValue: 1, wIndex: 0, wLength: 0),
            SetupPacket(bmRequestType: 2, bRequest: 1, wValue: 0, wIndex: 0x81, wLength: 0),
            SetupPacket(bmRequestType: 0, bRequest: 9, wValue: 0, wIndex: 0, wLength: 0),
        ]
        for (index, request) in requests.enumerated() {
            peer.send(peer.wire.control(UInt32(index), request))
            #expect(await peer.next() == .done(UInt32(index)))
        }
        #expect(rig.device.settings.configurationValue == 0)
        await rig.finish(peer)
    }

    @Test("A9: an endpoint that the settings lack is shut down, not killed")
    func noEndpoint() async throws {
        let rig = try USBIPRig(alternate: 1)
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64, endpoint: 5))
        #expect(await peer.next() == .done(1, -108))
        await rig.finish(peer)
    }

    @Test("A10: what can't be is refused, and the connection goes on")
    func refused() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete()))
        let peer = try await rig.connect()
        let wire = peer.wire
        let read = SetupPacket.getDeviceDescriptor()
        let write = SetupPacket(bmRequestType: 0x40, bRequest: 8, wValue: 0, wIndex: 0, wLength: 4)
        let commands: [[UInt8]] = [
            wire.submit(1, endpoint: 200, isIn: true, length: 64),
            wire.submit(1, endpoint: 200, isIn: false, length: 4) + [1, 2, 3, 4],
            wire.submit(1, endpoint: 0xffff_ffff, isIn: true, length: 64),
            wire.submit(1, endpoint: 16, isIn: true, length: 64),
            // A direction that isn't the setup packet's; a length that isn't.
            wire.submit(1, endpoint: 0, isIn: true, length: 4, setup: write.bytes),
            wire.submit(1, endpoint: 0, isIn: false, length: 18, setup: read.bytes) + usbipPattern(18),
            wire.submit(1, endpoint: 0, isIn: true, length: 19, setup: read.bytes),
            wire.submit(1, endpoint: 0, isIn: true, length: 0, setup: read.bytes),
        ]
        for command in commands {
            peer.send(command)
            #expect(await peer.next() == .done(1, -22))
        }
        peer.send(wire.bulkOut(2, []))
        #expect(await peer.next() == .done(2))
        #expect(rig.backend.calls.count == 1)
        await rig.finish(peer)
    }

    @Test("A11: more than 16 MiB in is refused without any memory")
    func tooLong() async throws {
        let rig = try USBIPRig()
        let peer = try await rig.connect()
        for length in [16 << 20 | 1, 0x7fff_ffff] as [UInt32] {
            peer.send(peer.wire.submit(1, endpoint: 1, isIn: true, length: length))
            #expect(await peer.next() == .done(1, -90))
        }
        await rig.finish(peer)
    }

    @Test("A12: more URBs than there may be are refused, and their data dropped")
    func tooMany() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        let count = UInt32(USBIPLimits.urbs)
        for seqnum in 0..<count { peer.send(peer.wire.bulkOut(seqnum, [1])) }
        peer.send(peer.wire.bulkOut(count, [1, 2, 3, 4, 5, 6, 7, 8]))
        #expect(await peer.next() == .done(count, -12))
        rig.backend.completeAll(.success)
        #expect(await peer.next(Int(count)).count == Int(count))
        await rig.finish(peer)
    }

    @Test("A12: more bytes than there may be are refused, and what follows is understood")
    func tooMuch() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 15 << 20))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.bulkOut(2, Array(repeating: 3, count: 1 << 20 | 1)))
        #expect(await peer.next() == .done(2, -12))
        peer.send(peer.wire.bulkIn(3, 512))
        let held = await rig.held(2, afterCalls: 2)
        held.last?.complete(data: [1])
        #expect(await peer.next() == .done(3, [1]))
        await rig.finish(peer)
    }

    @Test("A13, A14: a device that drains says busy, one that is gone says so")
    func admission() async throws {
        let rig = try USBIPRig()
        let peer = try await rig.connect()
        rig.device.stopAdmitting()
        peer.send(peer.wire.bulkIn(1, 64))
        #expect(await peer.next() == .done(1, -16))
        rig.device.resumeAdmitting()
        rig.device.disconnect()
        peer.send(peer.wire.bulkIn(2, 64))
        #expect(await peer.next() == .done(2, -19))
        await rig.finish(peer)
    }

    @Test("A15, A13, A14: PORT_RESET resets the device once; one that drains says busy, one that is gone says so")
    func portReset() async throws {
        let rig = try USBIPRig(ScriptedBackend([.reset(nil)]))
        let peer = try await rig.connect()
        let setup = SetupPacket(bmRequestType: 0x23, bRequest: 3, wValue: 4, wIndex: 1, wLength: 0)
        peer.send(peer.wire.control(1, setup))
        #expect(await peer.next() == .done(1))
        #expect(rig.backend.calls.count == 1)
        rig.device.stopAdmitting()
        peer.send(peer.wire.control(2, setup))
        #expect(await peer.next() == .done(2, -16))
        rig.device.resumeAdmitting()
        rig.device.disconnect()
        peer.send(peer.wire.control(3, setup))
        #expect(await peer.next() == .done(3, -19))
        #expect(rig.backend.calls.count == 1)
        await rig.finish(peer)
    }
}
