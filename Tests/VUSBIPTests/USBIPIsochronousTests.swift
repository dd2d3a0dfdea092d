// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: isochronous")
struct USBIPIsochronousTests {
    private func packet(_ offset: UInt32, _ length: UInt32, _ actual: UInt32, _ status: Int32 = 0) -> USBIPHeard.Packet
    {
        USBIPHeard.Packet(offset: offset, length: length, actualLength: actual, status: status)
    }

    private func reply(_ heard: USBIPHeard?) -> USBIPHeard.Reply? {
        guard case .submit(let reply)? = heard else { return nil }
        return reply
    }

    @Test("A6: what has come in is packed, and each packet is told of")
    func incoming() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.isochronousIn(1, [16, 16, 16]))
        let held = await rig.held(1, afterCalls: 1)
        held.first?.completeIsochronous([(3, 0), (0, -71), (2, 0)], errorCount: 1, startFrame: 77)
        let reply = reply(await peer.next())
        #expect(reply?.status == -18 && reply?.startFrame == 77 && reply?.errorCount == 1 && reply?.length == 5)
        #expect(reply?.data == [0, 1, 2, 32, 33])
        #expect(reply?.packets == [packet(0, 16, 3), packet(16, 16, 0, -71), packet(32, 16, 2)])
        await rig.finish(peer)
    }

    @Test("A6: what goes out lies where the packets say; the sum of the packets is told")
    func outgoing() async throws {
        let rig = try USBIPRig(
            ScriptedBackend([
                .submit(.out(0x04, usbipPattern(24)), .run { $0.completeIsochronous([(8, 0), (5, 0), (8, 0)]) })
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.isochronousOut(1, [8, 8, 8], usbipPattern(24)))
        let reply = reply(await peer.next())
        #expect(reply?.status == 0 && reply?.length == 21 && reply?.data == [])
        #expect(reply?.packets == [packet(0, 8, 8), packet(8, 8, 5), packet(16, 8, 8)])
        await rig.finish(peer)
    }

    @Test("A6: packets that lie apart or in another order are packed in their order")
    func gaps() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.expectData(1)
        let packets = [[32, 8], [0, 8]].flatMap { [$0[0], $0[1], 0, 0].flatMap { USBIPWire.big(UInt32($0)) } }
        peer.send(peer.wire.submit(1, endpoint: 3, isIn: true, length: 40, packets: 2) + packets)
        let held = await rig.held(1, afterCalls: 1)
        held.first?.completeIsochronous([(2, 0), (1, 0)])
        let reply = reply(await peer.next())
        #expect(reply?.data == [0, 1, 16])
        #expect(reply?.packets == [packet(32, 8, 2), packet(0, 8, 1)])
        await rig.finish(peer)
    }

    @Test("A6: 1,024 packets, in and out")
    func most() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .run { $0.completePackets(fill: 9) }))
        let peer = try await rig.connect()
        let lengths = Array(repeating: UInt32(64), count: 1024)
        peer.send(peer.wire.isochronousIn(1, lengths))
        let incoming = reply(await peer.next())
        #expect(incoming?.data == Array(repeating: 9, count: 65536) && incoming?.packets.count == 1024)
        peer.send(peer.wire.isochronousOut(2, lengths, usbipPattern(65536)))
        #expect(reply(await peer.next())?.length == 65536)
        await rig.finish(peer)
    }

    @Test(
        "A10: packets that don't fit are refused, and told of as they were asked for",
        arguments: [(0, 17), (8, 9), (0xffff_ffff, 1), (0, 0xffff_ffff), (0x8000_0000, 0x8000_0000)]
            as [(UInt32, UInt32)])
    func misfits(offset: UInt32, length: UInt32) async throws {
        let rig = try USBIPRig()
        let peer = try await rig.connect()
        peer.expectData(1)
        let bytes = [offset, length, 5, 6].flatMap(USBIPWire.big)
        peer.send(peer.wire.submit(1, endpoint: 3, isIn: true, length: 16, packets: 1) + bytes)
        let reply = reply(await peer.next())
        #expect(reply?.status == -22 && reply?.length == 0 && reply?.packets == [packet(offset, length, 0)])
        await rig.finish(peer)
    }

    @Test("A7: an isochronous transfer without packets is refused", arguments: [0, 0xffff_ffff] as [UInt32])
    func none(count: UInt32) async throws {
        let rig = try USBIPRig()
        let peer = try await rig.connect()
        peer.send(peer.wire.submit(1, endpoint: 3, isIn: true, length: 0, packets: count))
        #expect(reply(await peer.next())?.status == -22)
        await rig.finish(peer)
    }

    @Test("A12: one that is refused has its packets told of, with no data")
    func refused() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 16 << 20))
        peer.send(peer.wire.isochronousOut(2, [8, 8], usbipPattern(16)))
        let reply = reply(await peer.next())
        #expect(reply?.status == -12 && reply?.length == 0)
        #expect(reply?.packets == [packet(0, 8, 0), packet(8, 8, 0)])
        await rig.finish(peer)
    }

    @Test("U1: an isochronous transfer is cancelled as any other")
    func unlinked() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.completeAsCancelled)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.isochronousIn(1, [16, 16]))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.unlink(2, 1))
        #expect(await peer.next() == .unlink(2, -104))
        await rig.finish(peer)
    }
}
