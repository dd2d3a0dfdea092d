// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

@testable import VUSBIP

/// Emulated devices, as a guest has them.
@Suite("USB/IP: emulated devices")
struct USBIPEmulationTests {
    private struct Rig {
        let source = EmulationSource()
        let record: DeviceRecord
        let device: VirtualDevice
        let front: USBIPFront
        let export: USBIPExport
        let peer: USBIPPeer

        init(_ specification: String, isTCP: Bool = true) async throws {
            record = try source.add(EmulationSpecification(parsing: specification))[0]
            let opened = try await source.open(record, isForced: false)
            device = VirtualDevice(
                backend: opened.backend, descriptors: record.descriptors, speed: record.speed,
                configurationValue: opened.configurationValue, pool: BufferPool())
            front = USBIPFront(patience: .endless)
            let listener = try front.listen(USBIPListenerDefinition(.tcp(port: 0), .one("web1")))
            export = try front.export(device, at: USBIPRig.place)
            peer = try USBIPPeer(.tcp(listener.port ?? 0))
            peer.startReading()
            peer.send(USBIPWire.importDevice())
            _ = await peer.next()
        }

        func finish() async {
            peer.close()
            await front.stop()
            await device.close()
            #expect(device.inFlight == 0 && device.pool.outstanding == 0)
        }
    }

    @Test("zero: descriptors, bulk both ways, the pattern whole, isochronous")
    func zero() async throws {
        let rig = try await Rig("zero,pattern=mod63")
        let (peer, wire) = (rig.peer, rig.peer.wire)
        peer.send(wire.control(1, .getDeviceDescriptor()))
        #expect(await peer.next() == .done(1, Array(rig.record.descriptors.bytes.prefix(18))))
        for (index, count) in [512, 4096, 65536, 1 << 20, 2 << 20].enumerated() {
            let seqnum = UInt32(10 + 2 * index)
            let pattern = (0..<count).map { UInt8($0 % 512 % 63) }
            peer.send(wire.bulkIn(seqnum, count))
            #expect(await peer.next() == .done(seqnum, pattern))
            // It halts where it's sent anything else.
            peer.send(wire.bulkOut(seqnum + 1, pattern))
            #expect(await peer.next() == .done(seqnum + 1, length: count))
        }
        peer.send(wire.control(30, SetupPacket(bmRequestType: 1, bRequest: 11, wValue: 1, wIndex: 0, wLength: 0)))
        #expect(await peer.next() == .done(30))
        peer.send(wire.isochronousIn(31, [1024, 1024]))
        guard case .submit(let reply)? = await peer.next() else {
            Issue.record("no answer")
            return
        }
        #expect(reply.status == 0 && reply.length == 2048 && reply.packets.map(\.actualLength) == [1024, 1024])
        await rig.finish()
    }

    @Test("zero: transfers whose buffers the source changes for its own, many in one read")
    func changedBuffers() async throws {
        let rig = try await Rig("zero,pattern=mod63")
        let count = 40 as UInt32
        let lengths = [8192, 65536, 1024, 512 << 10]
        for seqnum in 0..<count { rig.peer.expectData(seqnum) }
        rig.peer.send((0..<count).flatMap { rig.peer.wire.bulkIn($0, lengths[Int($0) % 4]) })
        for seqnum in 0..<count {
            let length = lengths[Int(seqnum) % 4]
            #expect(await rig.peer.next() == .done(seqnum, (0..<length).map { UInt8($0 % 512 % 63) }))
        }
        await rig.finish()
    }

    @Test("zero: a halted endpoint stalls until it's cleared")
    func halt() async throws {
        let rig = try await Rig("zero")
        let (peer, wire) = (rig.peer, rig.peer.wire)
        peer.send(wire.control(1, SetupPacket(bmRequestType: 2, bRequest: 3, wValue: 0, wIndex: 0x81, wLength: 0)))
        #expect(await peer.next() == .done(1))
        peer.send(wire.bulkIn(2, 512))
        #expect(await peer.next() == .done(2, [], status: -32))
        peer.send(wire.control(3, SetupPacket(bmRequestType: 2, bRequest: 1, wValue: 0, wIndex: 0x81, wLength: 0)))
        #expect(await peer.next() == .done(3))
        peer.send(wire.bulkIn(4, 512))
        #expect(await peer.next() == .done(4, Array(repeating: 0, count: 512)))
        await rig.finish()
    }

    @Test("keyboard: a report that waits is told of when somebody types; UNLINK takes one back")
    func keyboard() async throws {
        let rig = try await Rig("keyboard")
        let (peer, wire) = (rig.peer, rig.peer.wire)
        peer.send(wire.bulkIn(1, 8))
        peer.send(wire.bulkIn(2, 8))
        peer.send(wire.bulkIn(3, 8))
        #expect(usbipEventually { rig.device.inFlight == 3 })
        try rig.source.type("a", on: rig.record.id)
        #expect(await peer.next(2) == [.done(1, [0, 0, 4, 0, 0, 0, 0, 0]), .done(2, [0, 0, 0, 0, 0, 0, 0, 0])])
        peer.send(wire.unlink(4, 3))
        #expect(await peer.next() == .unlink(4, -104))
        await rig.finish()
    }

    @Test("disk: a command, its data and its status")
    func disk() async throws {
        let path = "/tmp/vusb-usbip-\(UUID().uuidString.prefix(8)).img"
        let content = usbipPattern(1 << 20)
        try Data(content).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let rig = try await Rig("disk=\(path)")
        let (peer, wire) = (rig.peer, rig.peer.wire)
        let endpoints = rig.record.descriptors.configurations[0].interfaces[0].endpoints.map(\.bEndpointAddress)
        let input = try #require(endpoints.first { $0.direction == .in }).number
        let output = try #require(endpoints.first { $0.direction == .out }).number
        // READ(10) of 128 blocks from block 2 on, in a command wrapper of bulk-only transport.
        let block: [UInt8] = [0x28, 0, 0, 0, 0, 2, 0, 0, 128, 0]
        let wrapper: [UInt8] = [0x55, 0x53, 0x42, 0x43, 1, 0, 0, 0, 0, 0, 1, 0, 0x80, 0, 10] + block
        peer.send(wire.bulkOut(1, wrapper + Array(repeating: 0, count: 31 - wrapper.count), endpoint: UInt32(output)))
        peer.send(wire.bulkIn(2, 65536, endpoint: UInt32(input)))
        peer.send(wire.bulkIn(3, 13, endpoint: UInt32(input)))
        #expect(
            await peer.next(3) == [
                .done(1, length: 31), .done(2, Array(content[1024..<(1024 + 65536)])),
                .done(3, [0x55, 0x53, 0x42, 0x53, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            ])
        await rig.finish()
    }

    @Test("an unplug ends what is in flight; the session goes on until it's taken back")
    func unplug() async throws {
        let rig = try await Rig("keyboard")
        rig.peer.send(rig.peer.wire.bulkIn(1, 8))
        #expect(usbipEventually { rig.device.inFlight == 1 })
        try rig.source.remove(rig.record.id)
        #expect(await rig.peer.next() == .done(1, [], status: -19))
        rig.device.disconnect()
        await rig.export.end()
        #expect(await rig.peer.untilClosed() == [])
        await rig.finish()
    }
}
