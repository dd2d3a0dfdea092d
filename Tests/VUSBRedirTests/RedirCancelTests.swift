// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: cancel")
struct RedirCancelTests {
    typealias Packet = RedirHeard.Packet

    private static let cancelled = RedirHeard.packet(
        Packet(kind: .bulk, id: 5, endpoint: 0x81, status: .cancelled, length: 0))

    @Test("R4: a cancel is answered at once, exactly once: what becomes of the URB nobody is told")
    func answeredOnce() async throws {
        let rig = try RedirRig(ScriptedBackend([.submit(.in(0x81, 512), .hold), .cancel(.ignore)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(5, 512))
        let held = await rig.held(1, afterCalls: 1)
        peer.send(peer.wire.cancel(5))
        // The device is still at it.
        #expect(await peer.next() == Self.cancelled)
        #expect(rig.device.inFlight == 1)
        held.first?.complete(data: redirPattern(512))
        #expect(await peer.all() == [])
        #expect(rig.device.inFlight == 0)
        await rig.finish(peer)
    }

    @Test("R4: the id may be used again while the URB that had it is still in flight")
    func reused() async throws {
        let rig = try RedirRig(
            ScriptedBackend([
                .submit(.in(0x81, 512), .hold), .cancel(.ignore), .submit(.in(0x81, 64), .hold),
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(5, 512) + peer.wire.cancel(5) + peer.wire.bulkIn(5, 64))
        #expect(await peer.next() == Self.cancelled)
        await rig.backend.calls.wait(for: 3)
        let held = rig.backend.held
        #expect(held.map(\.requestedLength) == [512, 64])
        held.first?.complete(data: [1])
        held.last?.complete(data: [2])
        #expect(
            await peer.next() == .packet(Packet(kind: .bulk, id: 5, endpoint: 0x81, length: 1, data: [2])))
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }

    @Test("R4: each kind of transfer is answered in its own form")
    func kinds() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: 2)
        let peer = try await rig.connect()
        let setup = SetupPacket(bmRequestType: 0xc0, bRequest: 1, wValue: 2, wIndex: 3, wLength: 4)
        peer.send(peer.wire.control(1, setup) + peer.wire.bulkOut(2, [1, 2]) + peer.wire.interruptOut(3, [1]))
        await rig.backend.calls.wait(for: 3)
        for id in 1...3 { peer.send(peer.wire.cancel(UInt64(id))) }
        #expect(
            await peer.next(3) == [
                .packet(Packet(kind: .control, id: 1, endpoint: 0x80, status: .cancelled, length: 0, request: 1)),
                .packet(Packet(kind: .bulk, id: 2, endpoint: 0x02, status: .cancelled, length: 0)),
                .packet(Packet(kind: .interrupt, id: 3, endpoint: 0x06, status: .cancelled, length: 0)),
            ])
        #expect(await peer.all() == [])
        #expect(rig.device.inFlight == 0)
        await rig.finish(peer)
    }

    @Test("R5: a cancel of what was answered, or never asked for, says nothing")
    func tooLate() async throws {
        let rig = try RedirRig(ScriptedBackend([.submit(.in(0x81, 512), .complete(data: [1]))]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(5, 512) + peer.wire.cancel(5) + peer.wire.cancel(6) + peer.wire.cancel(5))
        #expect(await peer.nextPacket()?.status == .success)
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }

    @Test("R5: a cancel of what has ended and waits for its turn is answered at once, and its id is free")
    func waitingForItsTurn() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(4, 512) + peer.wire.bulkIn(5, 512) + peer.wire.bulkIn(6, 512))
        let held = await rig.held(3, afterCalls: 3)
        held[1].complete(data: redirPattern(512))
        peer.send(peer.wire.cancel(5))
        #expect(await peer.next() == Self.cancelled)
        peer.send(peer.wire.bulkIn(5, 512))
        let again = await rig.held(3, afterCalls: 4)
        for one in [again[2], held[2], held[0]] { one.complete(data: [1]) }
        let heard = await peer.next(3)
        #expect(
            heard
                == [4, 6, 5].map {
                    .packet(Packet(kind: .bulk, id: $0, endpoint: 0x81, length: 1, data: [1]))
                })
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }

    @Test("a cancel doesn't reach changes of settings")
    func notSettings() async throws {
        let rig = try RedirRig(
            ScriptedBackend([.submit(.operation(.setConfiguration(1)), .hold), .submit(.in(0x81, 8), .complete())]))
        let peer = try await rig.connect()
        peer.send(peer.wire.setConfiguration(5, 1) + peer.wire.cancel(5) + peer.wire.bulkIn(5, 8))
        await rig.backend.calls.wait(for: 1)
        rig.backend.completeNext()
        let heard = await peer.next(4)
        #expect(heard.contains(.configuration(id: 5, .success, value: 1)))
        #expect(heard.last == .packet(Packet(kind: .bulk, id: 5, endpoint: 0x81, length: 0)))
        await rig.finish(peer)
    }

    @Test("R2: an id that is in flight isn't another's: the connection ends")
    func idInFlight() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(5, 512) + peer.wire.bulkOut(5, [1]))
        #expect(await peer.untilClosed() == [])
        #expect(
            await rig.events.wait(for: 2).last
                == .closed(violation: "transfer 5, which is in flight already"))
        #expect(rig.device.inFlight == 0)
        await rig.finish(peer)
    }

    @Test("cancels that race with completions: one answer each")
    func race() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        let count = 200
        for id in 0..<count { peer.send(peer.wire.bulkIn(UInt64(id), 64)) }
        let held = await rig.held(count, afterCalls: count)
        await Threads.run(2) { thread in
            for index in 0..<count {
                if thread == 0 {
                    held[index].complete(data: [1])
                } else {
                    peer.send(peer.wire.cancel(UInt64(index)))
                }
            }
        }
        var ids: [UInt64] = []
        for case .packet(let packet) in await peer.next(count) {
            ids.append(packet.id)
            #expect(packet.status == .cancelled ? packet.data == [] : packet.data == [1])
        }
        #expect(ids.sorted() == (0..<UInt64(count)).map(\.self))
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }
}
