// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: interrupt and bulk receiving")
struct RedirStreamTests {
    typealias Packet = RedirHeard.Packet

    /// A peer for which the sample device's endpoint 0x85 is received, 4 URBs of 64 bytes in flight.
    private func interrupt() async throws -> (rig: RedirRig, peer: RedirPeer) {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: 2)
        let peer = try await rig.connect()
        peer.send(peer.wire.startInterrupt(0x85))
        #expect(await peer.next() == .interruptStatus(0x85, .success))
        await rig.backend.calls.wait(for: RedirLimits.interruptTransfers)
        return (rig, peer)
    }

    private func report(_ id: UInt64, _ data: [UInt8]) -> RedirHeard {
        .packet(Packet(kind: .interrupt, id: id, endpoint: 0x85, length: data.count, data: data))
    }

    // MARK: - Interrupt

    @Test("R8: several transfers are in flight, and one that ends is followed by another")
    func inFlight() async throws {
        let (rig, peer) = try await interrupt()
        #expect(rig.backend.held.map(\.requestedLength) == [64, 64, 64, 64])
        rig.backend.completeNext(data: [1, 2, 3])
        #expect(await peer.next() == report(0, [1, 2, 3]))
        await rig.backend.calls.wait(for: 5)
        #expect(rig.backend.held.count == 4)
        await rig.finish(peer)
    }

    @Test("reports come in order, however many they are; their ids count up")
    func order() async throws {
        let (rig, peer) = try await interrupt()
        for index in 0..<50 {
            await rig.backend.calls.wait(for: index + 4)
            rig.backend.completeNext(data: [UInt8(index)])
        }
        #expect(await peer.next(50) == (0..<50).map { report(UInt64($0), [UInt8($0)]) })
        await rig.finish(peer)
    }

    @Test("R10: a stall ends it: the guest is told, the others are cancelled, and it can begin anew")
    func stall() async throws {
        let (rig, peer) = try await interrupt()
        rig.backend.completeNext(.stall)
        #expect(await peer.next() == .interruptStatus(0x85, .stall))
        #expect(rig.device.inFlight == 0)
        peer.send(peer.wire.startInterrupt(0x85))
        #expect(await peer.next() == .interruptStatus(0x85, .success))
        // 4 submits, 3 cancels, 4 submits.
        await rig.backend.calls.wait(for: 11)
        rig.backend.completeNext(data: [9])
        #expect(await peer.next() == report(0, [9]))
        await rig.finish(peer)
    }

    @Test("R10: errors of the wire are told by the packet's status; so many without a success between end it")
    func errors() async throws {
        let (rig, peer) = try await interrupt()
        for index in 0..<RedirLimits.streamFailures {
            await rig.backend.calls.wait(for: index + 4)
            rig.backend.completeNext(.protocolError)
        }
        let failed = await peer.next(RedirLimits.streamFailures)
        #expect(
            failed
                == (0..<RedirLimits.streamFailures).map {
                    .packet(Packet(kind: .interrupt, id: UInt64($0), endpoint: 0x85, status: .ioError, length: 0))
                })
        await rig.backend.calls.wait(for: RedirLimits.streamFailures + 4)
        rig.backend.completeNext(.protocolError)
        #expect(await peer.next() == .interruptStatus(0x85, .stall))
        await rig.finish(peer)
    }

    @Test("a success between forgives the failures before it")
    func forgiven() async throws {
        let (rig, peer) = try await interrupt()
        let count = 2 * RedirLimits.streamFailures
        for index in 0..<count {
            await rig.backend.calls.wait(for: index + 4)
            if index == count / 2 { rig.backend.completeNext(data: [1]) } else { rig.backend.completeNext(.io) }
        }
        let heard = await peer.next(count)
        #expect(heard.count == count)
        #expect(!heard.contains(.interruptStatus(0x85, .stall)))
        await rig.finish(peer)
    }

    @Test("R9: stop cancels what is in flight, and no report comes behind its answer")
    func stop() async throws {
        let rig = try RedirRig(
            ScriptedBackend(
                Array(repeating: .submit(.in(0x85, 64), .hold), count: 4)
                    + Array(repeating: .cancel(.ignore), count: 4)), alternate: 2)
        let peer = try await rig.connect()
        peer.send(peer.wire.startInterrupt(0x85))
        _ = await peer.next()
        await rig.backend.calls.wait(for: 4)
        peer.send(peer.wire.stopInterrupt(0x85))
        #expect(await peer.next() == .interruptStatus(0x85, .success))
        await rig.backend.calls.wait(for: 8)
        // The cancels come too late.
        while rig.backend.completeNext(data: [1]) {}
        #expect(await peer.all() == [])
        #expect(rig.device.inFlight == 0)
        await rig.finish(peer)
    }

    @Test("what isn't there can be stopped; what is there isn't started twice")
    func twice() async throws {
        let (rig, peer) = try await interrupt()
        peer.send(peer.wire.startInterrupt(0x85) + peer.wire.stopInterrupt(0x85) + peer.wire.stopInterrupt(0x85))
        #expect(
            await peer.next(3) == [
                .interruptStatus(0x85, .invalid), .interruptStatus(0x85, .success), .interruptStatus(0x85, .success),
            ])
        #expect(redirEventually { rig.device.inFlight == 0 })
        await rig.finish(peer)
    }

    @Test("an endpoint of another type or direction, or none, isn't received")
    func wrongEndpoint() async throws {
        let rig = try RedirRig(ScriptedBackend([]), alternate: 2)
        let peer = try await rig.connect()
        peer.send(peer.wire.startInterrupt(0x81) + peer.wire.startInterrupt(0x8e) + peer.wire.startInterrupt(0xf5))
        #expect(
            await peer.next(3) == [
                .interruptStatus(0x81, .invalid), .interruptStatus(0x8e, .invalid), .interruptStatus(0xf5, .invalid),
            ])
        await rig.finish(peer)
    }

    @Test("an alternate setting ends the streams of its interface without a word")
    func alternateSetting() async throws {
        let (rig, peer) = try await interrupt()
        peer.send(peer.wire.setInterface(1, 0, 0))
        // 4 cancels, the change.
        await rig.backend.calls.wait(for: 9)
        rig.backend.completeNext()
        let heard = await peer.next(3)
        #expect(heard.last == .interface(id: 1, .success, number: 0, alternate: 0))
        #expect(await peer.all() == [])
        #expect(rig.device.inFlight == 0)
        await rig.finish(peer)
    }

    @Test("an unplug ends it without a word: the device's own end is told")
    func unplug() async throws {
        let (rig, peer) = try await interrupt()
        rig.device.disconnect()
        #expect(redirEventually { rig.device.inFlight == 0 })
        #expect(await peer.all() == [])
        rig.port.end()
        #expect(await peer.untilClosed() == [.disconnect])
        await rig.finish(peer)
    }

    // MARK: - Bulk

    @Test("a bulk endpoint is received ahead, as many transfers of the size as were asked for")
    func bulk() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.startBulk(0x81, bytes: 1024, transfers: 3))
        #expect(await peer.next() == .bulkStatus(0x81, .success, streamID: 0))
        await rig.backend.calls.wait(for: 3)
        #expect(rig.backend.held.map(\.requestedLength) == [1024, 1024, 1024])
        #expect(rig.port.status.streams == 1)
        for index in 0..<6 {
            await rig.backend.calls.wait(for: 3 + index)
            rig.backend.completeNext(data: redirPattern(100 * index))
        }
        #expect(
            await peer.next(6)
                == (0..<6).map {
                    .packet(
                        Packet(
                            kind: .buffered, id: UInt64($0), endpoint: 0x81, length: 100 * $0,
                            data: redirPattern(100 * $0)))
                })
        peer.send(peer.wire.stopBulk(0x81))
        #expect(await peer.next() == .bulkStatus(0x81, .success, streamID: 0))
        #expect(redirEventually { rig.device.inFlight == 0 })
        #expect(rig.port.status.streams == 0)
        await rig.finish(peer)
    }

    @Test("transfers that the guest sends itself go beside it")
    func bulkBeside() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.startBulk(0x81, bytes: 1024, transfers: 1))
        _ = await peer.next()
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.bulkOut(1, [1, 2]))
        await rig.backend.calls.wait(for: 2)
        rig.backend.held.last?.complete()
        #expect(await peer.nextPacket() == Packet(kind: .bulk, id: 1, endpoint: 0x02, length: 2))
        await rig.finish(peer)
    }

    @Test("a stall ends it, with its stream's number")
    func bulkStall() async throws {
        let rig = try RedirRig(
            ScriptedBackend(always: .hold), descriptors: RedirHelloTests.superSpeed(), speed: .super)
        let peer = try await rig.connect()
        peer.send(peer.wire.startBulk(0x81, bytes: 1024, transfers: 2, streamID: 4))
        #expect(await peer.next() == .bulkStatus(0x81, .success, streamID: 4))
        await rig.backend.calls.wait(for: 2)
        rig.backend.completeNext(.stall)
        #expect(await peer.next() == .bulkStatus(0x81, .stall, streamID: 4))
        await rig.finish(peer)
    }

    @Test(
        "absurd wishes are invalid",
        arguments: [
            (0x81, 1024, 0, 0), (0x81, 1024, 33, 0), (0x81, 0, 1, 0), (0x81, 512 << 10 | 1, 1, 0),
            (0x81, 128 << 20, 255, 0), (0x81, 1024, 1, 0x1_0000), (0x8f, 1024, 1, 0), (0x85, 64, 1, 0),
        ] as [(UInt8, UInt32, UInt8, UInt32)])
    func absurdBulk(endpoint: UInt8, bytes: UInt32, transfers: UInt8, streamID: UInt32) async throws {
        let rig = try RedirRig(ScriptedBackend([]), alternate: 2)
        let peer = try await rig.connect()
        peer.send(peer.wire.startBulk(endpoint, bytes: bytes, transfers: transfers, streamID: streamID))
        #expect(await peer.next() == .bulkStatus(endpoint, .invalid, streamID: streamID))
        await rig.finish(peer)
    }

    @Test("the largest wish that is granted is within the device's bytes in flight")
    func largestBulk() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(
            peer.wire.startBulk(
                0x81, bytes: UInt32(RedirLimits.bulkTransfer), transfers: UInt8(RedirLimits.bulkTransfers)))
        #expect(await peer.next() == .bulkStatus(0x81, .success, streamID: 0))
        await rig.backend.calls.wait(for: RedirLimits.bulkTransfers)
        #expect(rig.device.inFlight == RedirLimits.bulkTransfers)
        await rig.finish(peer)
    }
}
