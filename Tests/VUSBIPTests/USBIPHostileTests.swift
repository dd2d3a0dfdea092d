// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: hostile peers")
struct USBIPHostileTests {
    /// The violation that ends the session of a peer that says this.
    private func violation(_ said: (USBIPWire) -> [UInt8]) async throws -> String? {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(said(peer.wire))
        _ = await peer.untilClosed()
        let end = await rig.waitForEnd()
        #expect(rig.device.inFlight == 0 && rig.device.pool.outstanding == 0)
        await rig.finish(peer)
        guard case .violation(let what)? = end else { return nil }
        return what
    }

    @Test("H2: commands that aren't an importer's", arguments: [0, 3, 4, 5, 0x0111_8005, 0xffff_ffff] as [UInt32])
    func commands(command: UInt32) async throws {
        let what = try await violation { $0.command(command, 1, direction: 0, endpoint: 0, [0, 0, 0, 0, 0]) }
        #expect(what == "a command with the number \(command)")
    }

    @Test("H2: directions that there aren't", arguments: [2, 0x80, 0xffff_ffff] as [UInt32])
    func directions(direction: UInt32) async throws {
        let what = try await violation { $0.command(1, 1, direction: direction, endpoint: 1, [0, 0, 0, 0, 0]) }
        #expect(what == "the direction \(direction)")
    }

    @Test("H3: a device that it hasn't imported", arguments: [0, 0x0001_0003, 0x0002_0001, 0xffff_ffff] as [UInt32])
    func devices(id: UInt32) async throws {
        let wire = USBIPWire(deviceID: id)
        #expect(
            try await violation { _ in wire.bulkIn(1, 8) } == "a command for the device \(id), which it hasn't imported"
        )
        #expect(
            try await violation { _ in wire.unlink(1, 2) } == "a command for the device \(id), which it hasn't imported"
        )
    }

    @Test(
        "H4: lengths that are negative, or too long to be sent",
        arguments: [
            (0x8000_0000, true), (0xffff_ffff, true), (0x8000_0000, false), (0xffff_ffff, false), (0x7fff_ffff, false),
            (16 << 20 | 1, false),
        ] as [(UInt32, Bool)])
    func lengths(length: UInt32, isIn: Bool) async throws {
        let what = try await violation { $0.submit(1, endpoint: isIn ? 1 : 2, isIn: isIn, length: length) }
        #expect(what == "a transfer of \(length) bytes")
    }

    @Test("H5: more packets than there can be", arguments: [1025, 0x8000_0000, 0x7fff_ffff, 0xffff_fffe] as [UInt32])
    func packets(count: UInt32) async throws {
        let what = try await violation { $0.submit(1, endpoint: 3, isIn: true, length: 8, packets: count) }
        #expect(what == "a transfer of \(count) packets")
    }

    @Test("H6: a seqnum that is in flight")
    func seqnum() async throws {
        #expect(try await violation { $0.bulkIn(7, 8) + $0.bulkIn(7, 8) } == "the seqnum 7, which is in flight already")
    }

    @Test("H8: nothing but zeros is the end, like a connection that is closed")
    func farewell() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete(data: [1])))
        let peer = try await rig.connect()
        peer.expectData(1)
        peer.send(peer.wire.bulkIn(1, 8) + Array(repeating: 0, count: 48))
        #expect(await peer.untilClosed() == [.done(1, [1])])
        #expect(await rig.waitForEnd() == .closed)
        await rig.finish(peer)
    }

    @Test("what it said before is answered")
    func before() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete(data: [1])))
        let peer = try await rig.connect()
        peer.expectData(1)
        peer.send(peer.wire.bulkIn(1, 8) + Array(repeating: 0xff, count: 48))
        #expect(await peer.untilClosed() == [.done(1, [1])])
        await rig.finish(peer)
    }

    @Test(
        "a session that ends in the midst of a frame leaves nothing",
        arguments: [1, 47, 48, 100, 4000, 4096 + 47, 4096 + 50])
    func cut(count: Int) async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        let frame = peer.wire.isochronousOut(1, [1024, 1024, 1024, 1024], usbipPattern(4096))
        peer.send(Array(frame.prefix(count)))
        peer.close()
        #expect(await rig.waitForEnd() == .closed)
        #expect(rig.device.pool.outstanding == 0)
        await rig.finish(peer)
    }

    @Test("anything may be said, and all is given back", arguments: 0..<64 as Range<UInt64>)
    func noise(seed: UInt64) async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        var state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1
        var bytes: [UInt8] = []
        for _ in 0..<200 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let choice = UInt8(truncatingIfNeeded: state >> 33)
            switch choice % 4 {
            case 0: bytes += peer.wire.bulkIn(UInt32(choice), Int(choice) * 100)
            case 1: bytes += peer.wire.bulkOut(UInt32(choice), usbipPattern(Int(choice)))
            case 2: bytes += peer.wire.unlink(UInt32(choice), UInt32(choice ^ 1))
            default: bytes += [choice]
            }
        }
        peer.send(bytes)
        peer.finishSending()
        _ = await peer.untilClosed()
        #expect(await rig.waitForEnd() != nil)
        #expect(rig.device.inFlight == 0 && rig.device.pool.outstanding == 0)
        await rig.finish(peer)
    }
}
