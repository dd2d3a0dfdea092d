// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: settings and reset")
struct RedirSettingTests {
    private static let interface0 = InterfaceNumber(rawValue: 0)

    private func addresses(_ heard: RedirHeard?) -> [UInt8] {
        if case .endpoints(let rows)? = heard { return rows.map(\.address) }
        return []
    }

    private func interfaceStatus(_ heard: RedirHeard?) -> RedirWord? {
        if case .interface(_, let status, _, _)? = heard { return status }
        return nil
    }

    @Test("R6: SET_CONFIGURATION: the description comes before the status")
    func setConfiguration() async throws {
        let rig = try RedirRig(
            ScriptedBackend([.submit(.operation(.setConfiguration(1)), .complete())]), configuration: 0)
        let peer = try await rig.connect()
        peer.send(peer.wire.setConfiguration(3, 1))
        let heard = await peer.next(3)
        #expect(heard.first == .interfaces([RedirHeard.Interface(number: 0, interfaceClass: 0xff)]))
        #expect(addresses(heard.dropFirst().first) == [0x00, 0x02, 0x80, 0x81])
        #expect(heard.last == .configuration(id: 3, .success, value: 1))
        await rig.finish(peer)
    }

    @Test("the configuration can be taken away")
    func unconfigure() async throws {
        let rig = try RedirRig(ScriptedBackend([.submit(.operation(.setConfiguration(0)), .complete())]))
        let peer = try await rig.connect()
        peer.send(peer.wire.setConfiguration(3, 0) + peer.wire.getConfiguration(4))
        let heard = await peer.next(4)
        #expect(heard.first == .interfaces([]))
        #expect(
            heard.suffix(2) == [
                .configuration(id: 3, .success, value: 0), .configuration(id: 4, .success, value: 0),
            ])
        await rig.finish(peer)
    }

    @Test("a configuration that there isn't stalls, and the one in force is told")
    func unknownConfiguration() async throws {
        let rig = try RedirRig()
        let peer = try await rig.connect()
        peer.send(peer.wire.setConfiguration(3, 9))
        #expect(await peer.next(3).last == .configuration(id: 3, .stall, value: 1))
        await rig.finish(peer)
    }

    @Test("R6: SET_INTERFACE: the new setting's endpoints come before the status")
    func setInterface() async throws {
        let rig = try RedirRig(
            ScriptedBackend([.submit(.operation(.setInterface(Self.interface0, alternate: 2)), .complete())]))
        let peer = try await rig.connect()
        peer.send(peer.wire.setInterface(4, 0, 2) + peer.wire.getInterface(5, 0))
        let heard = await peer.next(4)
        #expect(addresses(heard.dropFirst().first) == [0x00, 0x02, 0x06, 0x80, 0x81, 0x85])
        #expect(
            heard.suffix(2) == [
                .interface(id: 4, .success, number: 0, alternate: 2),
                .interface(id: 5, .success, number: 0, alternate: 2),
            ])
        await rig.finish(peer)
    }

    @Test("an interface that there isn't: setting it stalls, asking for it is invalid")
    func unknownInterface() async throws {
        let rig = try RedirRig()
        let peer = try await rig.connect()
        peer.send(peer.wire.setInterface(1, 7, 0) + peer.wire.setInterface(2, 0, 9) + peer.wire.getInterface(3, 7))
        let heard = await peer.next(7)
        #expect(heard[2] == .interface(id: 1, .stall, number: 7, alternate: 0))
        #expect(interfaceStatus(heard[5]) == .stall)
        #expect(heard[6] == .interface(id: 3, .invalid, number: 7, alternate: 0))
        await rig.finish(peer)
    }

    @Test("R6: what is said behind a change waits until it's done, and then comes in order")
    func changeHolds() async throws {
        let rig = try RedirRig(
            ScriptedBackend([
                .submit(.operation(.setInterface(Self.interface0, alternate: 2)), .hold),
                .submit(.out(0x06, [1]), .complete()), .submit(.out(0x06, [2]), .complete()),
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.setInterface(1, 0, 2) + peer.wire.interruptOut(2, [1]) + peer.wire.interruptOut(3, [2]))
        await rig.backend.calls.wait(for: 1)
        // A peer that goes on talking meanwhile isn't read either.
        peer.send(peer.wire.getInterface(4, 0))
        #expect(rig.backend.calls.count == 1)
        rig.backend.completeNext()
        let heard = await peer.next(6)
        #expect(heard[2] == .interface(id: 1, .success, number: 0, alternate: 2))
        #expect(
            heard.dropFirst(3) == [
                .packet(RedirHeard.Packet(kind: .interrupt, id: 2, endpoint: 0x06, length: 1)),
                .packet(RedirHeard.Packet(kind: .interrupt, id: 3, endpoint: 0x06, length: 1)),
                .interface(id: 4, .success, number: 0, alternate: 2),
            ])
        await rig.finish(peer)
    }

    @Test("a change that the device refuses is told by the status, and what waited goes on")
    func changeFails() async throws {
        let rig = try RedirRig(
            ScriptedBackend([
                .submit(.operation(.setInterface(Self.interface0, alternate: 2)), .hold),
                .submit(.in(0x81, 8), .complete(data: [1])),
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.setInterface(1, 0, 2) + peer.wire.bulkIn(2, 8))
        await rig.backend.calls.wait(for: 1)
        rig.backend.completeNext(.io)
        let heard = await peer.next(4)
        #expect(addresses(heard[1]) == [0x00, 0x02, 0x80, 0x81])
        #expect(interfaceStatus(heard[2]) == .ioError)
        #expect(heard[3] == .packet(RedirHeard.Packet(kind: .bulk, id: 2, endpoint: 0x81, length: 1, data: [1])))
        await rig.finish(peer)
    }

    @Test("transfers in flight don't hold a change up, and are answered")
    func changeAmongTransfers() async throws {
        let rig = try RedirRig(
            ScriptedBackend([
                .submit(.in(0x81, 8), .hold),
                .submit(.operation(.setInterface(Self.interface0, alternate: 1)), .complete()),
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(2, 8) + peer.wire.setInterface(1, 0, 1))
        #expect(await peer.next(3).last == .interface(id: 1, .success, number: 0, alternate: 1))
        rig.backend.completeNext(data: [1])
        #expect(await peer.nextPacket()?.data == [1])
        await rig.finish(peer)
    }

    @Test("R7: a reset has no answer; what was in flight fails, and what is said behind it waits")
    func reset() async throws {
        let rig = try RedirRig(
            ScriptedBackend([
                .submit(.in(0x81, 8), .hold), .reset(nil), .submit(.in(0x81, 16), .complete(data: [2])),
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 8) + peer.wire.reset() + peer.wire.bulkIn(2, 16))
        let heard = await peer.next(2)
        #expect(
            heard == [
                .packet(RedirHeard.Packet(kind: .bulk, id: 1, endpoint: 0x81, status: .ioError, length: 0)),
                .packet(RedirHeard.Packet(kind: .bulk, id: 2, endpoint: 0x81, length: 1, data: [2])),
            ])
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }

    @Test("resets one behind the other are all carried out")
    func resets() async throws {
        let rig = try RedirRig(ScriptedBackend([.reset(nil), .reset(USBError(.io, "no")), .reset(nil)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.reset() + peer.wire.reset() + peer.wire.reset())
        #expect(await peer.all() == [])
        #expect(rig.backend.calls.count == 3)
        await rig.finish(peer)
    }

    @Test("a device that doesn't come back from a reset answers all with an error")
    func goneAtReset() async throws {
        let rig = try RedirRig(ScriptedBackend([.reset(USBError(.gone, "unplugged"))]))
        let peer = try await rig.connect()
        peer.send(peer.wire.reset() + peer.wire.bulkIn(1, 8) + peer.wire.setConfiguration(2, 1))
        #expect(await peer.nextPacket()?.status == .ioError)
        #expect(await peer.next(3).last == .configuration(id: 2, .ioError, value: 1))
        await rig.finish(peer)
    }

    // MARK: - Bulk streams

    @Test("bulk streams are there as far as the endpoints have them")
    func bulkStreams() async throws {
        let rig = try RedirRig(descriptors: RedirHelloTests.superSpeed(), speed: .super)
        let peer = try await rig.connect()
        // 0x81, with 16 streams, is bit 17; 0x02, with none, is bit 2.
        let (input, output): (UInt32, UInt32) = (1 << 17, 1 << 2)
        peer.send(
            peer.wire.allocateStreams(1, endpoints: input, count: 16)
                + peer.wire.allocateStreams(2, endpoints: input, count: 17)
                + peer.wire.allocateStreams(3, endpoints: input | output, count: 1)
                + peer.wire.allocateStreams(4, endpoints: 0, count: 1)
                + peer.wire.allocateStreams(5, endpoints: input, count: 0)
                + peer.wire.allocateStreams(6, endpoints: 0xffff_ffff, count: 0xffff_ffff)
                + peer.wire.freeStreams(7, endpoints: input))
        #expect(
            await peer.next(7) == [
                .streams(id: 1, .success, endpoints: input, count: 16),
                .streams(id: 2, .invalid, endpoints: input, count: 17),
                .streams(id: 3, .invalid, endpoints: input | output, count: 1),
                .streams(id: 4, .invalid, endpoints: 0, count: 1),
                .streams(id: 5, .invalid, endpoints: input, count: 0),
                .streams(id: 6, .invalid, endpoints: 0xffff_ffff, count: 0xffff_ffff),
                .streams(id: 7, .success, endpoints: input, count: 0),
            ])
        await rig.finish(peer)
    }
}
