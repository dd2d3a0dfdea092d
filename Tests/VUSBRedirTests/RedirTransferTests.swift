// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: transfers")
struct RedirTransferTests {
    typealias Packet = RedirHeard.Packet

    /// Peers that differ in the form of their messages.
    static let forms: [RedirCapabilities] = [
        .all, .none, [.longIDs], [.longBulk], RedirCapabilities.all.subtracting(.longIDs),
    ]

    private static let getDescriptor = SetupPacket(
        bmRequestType: 0x80, bRequest: 6, wValue: 0x0100, wIndex: 0, wLength: 64)
    private static let vendorOut = SetupPacket(bmRequestType: 0x40, bRequest: 9, wValue: 1, wIndex: 2, wLength: 3)

    /// Says it all at once; returns as many answers.
    private func answers(
        _ script: [ScriptedBackend.Record], _ capabilities: RedirCapabilities = .all, count: Int,
        descriptors: Descriptors? = nil, alternate: UInt8 = 2, _ said: (RedirWire) -> [UInt8]
    ) async throws -> [Packet] {
        let rig = try RedirRig(
            ScriptedBackend(script), alternate: alternate, descriptors: descriptors,
            speed: descriptors == nil ? .high : .super)
        let peer = try await rig.connect(capabilities)
        peer.send(said(peer.wire))
        var packets: [Packet] = []
        for _ in 0..<count { if let packet = await peer.nextPacket() { packets.append(packet) } }
        #expect(await peer.all() == [])
        await rig.finish(peer)
        return packets
    }

    // MARK: - Control

    @Test("a control IN transfer's data are what came", arguments: forms)
    func controlIn(_ form: RedirCapabilities) async throws {
        let answers = try await answers(
            [.submit(.control(Self.getDescriptor), .complete(data: redirPattern(18)))], form, count: 1
        ) { $0.control(7, Self.getDescriptor) }
        #expect(
            answers == [
                Packet(kind: .control, id: 7, endpoint: 0x80, length: 18, request: 6, data: redirPattern(18))
            ])
    }

    @Test("a control OUT transfer's data reach the device; its answer has the length and no data")
    func controlOut() async throws {
        let answers = try await answers(
            [.submit(.control(Self.vendorOut, [1, 2, 3]), .complete())], count: 1
        ) { $0.control(8, Self.vendorOut, [1, 2, 3]) }
        #expect(answers == [Packet(kind: .control, id: 8, endpoint: 0, length: 3, request: 9)])
    }

    @Test("a control transfer without data is answered, whichever endpoint 0 it names", arguments: [0x00, 0x80])
    func controlEmpty(endpoint: UInt8) async throws {
        let setup = SetupPacket(bmRequestType: 0xc0, bRequest: 5, wValue: 0, wIndex: 0, wLength: 0)
        let answers = try await answers([.submit(.control(setup), .complete())], count: 1) {
            $0.control(9, setup, endpoint: endpoint)
        }
        #expect(answers == [Packet(kind: .control, id: 9, endpoint: endpoint, length: 0, request: 5)])
    }

    @Test(
        "how a URB ended is told in the protocol's words",
        arguments: [
            (URBStatus.stall, RedirWord.stall), (.timedOut, .timeout), (.babble, .babble), (.io, .ioError),
            (.noDevice, .ioError), (.cancelled, .cancelled), (.invalid, .invalid), (.protocolError, .ioError),
        ])
    func statuses(status: URBStatus, word: RedirWord) async throws {
        let answers = try await answers(
            [
                .submit(.control(Self.getDescriptor), .complete(status)), .submit(.in(0x81, 512), .complete(status)),
                .submit(.out(0x06, [1]), .complete(status)),
            ], count: 3
        ) { $0.control(1, Self.getDescriptor) + $0.bulkIn(2, 512) + $0.interruptOut(3, [1]) }
        #expect(answers.map(\.status) == [word, word, word])
        #expect(answers.map(\.kind) == [.control, .bulk, .interrupt])
        #expect(answers.allSatisfy { $0.length == 0 && $0.data == [] })
    }

    @Test("a control transfer to another endpoint, or against its setup packet's direction, is invalid")
    func misdirected() async throws {
        let answers = try await answers([], count: 3) {
            $0.control(1, Self.getDescriptor, endpoint: 0x81)
                + $0.control(2, Self.vendorOut, endpoint: 0x80)
                + $0.control(3, Self.getDescriptor, redirPattern(64), endpoint: 0)
        }
        #expect(answers.map(\.id) == [1, 2, 3])
        #expect(answers.allSatisfy { $0.status == .invalid && $0.length == 0 })
    }

    @Test("a peer that sets its configuration by a control transfer finds the device's endpoints changed")
    func intercepted() async throws {
        let setup = SetupPacket(bmRequestType: 1, bRequest: 11, wValue: 1, wIndex: 0, wLength: 0)
        let rig = try RedirRig(
            ScriptedBackend([
                .submit(.operation(.setInterface(InterfaceNumber(rawValue: 0), alternate: 1)), .complete())
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.control(1, setup))
        #expect(await peer.nextPacket()?.status == .success)
        #expect(rig.device.endpoint(EndpointAddress(rawValue: 0x83)) != nil)
        await rig.finish(peer)
    }

    // MARK: - Bulk

    @Test("a bulk IN transfer's data are what came, not what was asked for", arguments: [0, 1, 511, 512, 513, 60_000])
    func bulkIn(count: Int) async throws {
        for form in Self.forms {
            let answers = try await answers(
                [.submit(.in(0x81, 65_535), .complete(data: redirPattern(count)))], form, count: 1
            ) { $0.bulkIn(0xffff_fffe, 65_535) }
            #expect(
                answers == [
                    Packet(kind: .bulk, id: 0xffff_fffe, endpoint: 0x81, length: count, data: redirPattern(count))
                ])
        }
    }

    @Test("a bulk OUT transfer's data reach the device", arguments: forms)
    func bulkOut(_ form: RedirCapabilities) async throws {
        let data = redirPattern(65_535)
        let answers = try await answers(
            [.submit(.out(0x02, []), .complete()), .submit(.out(0x02, data), .complete())], form, count: 2
        ) { $0.bulkOut(1, []) + $0.bulkOut(2, data) }
        #expect(
            answers == [
                Packet(kind: .bulk, id: 1, endpoint: 0x02, length: 0),
                Packet(kind: .bulk, id: 2, endpoint: 0x02, length: 65_535),
            ])
    }

    @Test("beyond 64 KiB a length has its upper half, each way; beyond 2 MiB it isn't the pool's memory")
    func longBulk() async throws {
        let data = redirPattern(3 << 20)
        let answers = try await answers(
            [.submit(.out(0x02, data), .complete()), .submit(.in(0x81, 3 << 20), .complete(data: data))], count: 2
        ) { $0.bulkOut(1, data) + $0.bulkIn(2, 3 << 20) }
        #expect(answers.map(\.length) == [3 << 20, 3 << 20])
        #expect(answers.map(\.data) == [[], data])
    }

    @Test("ids of 64 bits come back whole")
    func longIDs() async throws {
        let answers = try await answers([.submit(.in(0x81, 512), .complete(data: [1]))], count: 1) {
            $0.bulkIn(0x0123_4567_89ab_cdef, 512)
        }
        #expect(answers.first?.id == 0x0123_4567_89ab_cdef)
    }

    @Test("a short header of an old peer isn't filled up with what a longer one brought before it")
    func staleHeader() async throws {
        let answers = try await answers(
            [.submit(.control(Self.vendorOut), .complete()), .submit(.in(0x81, 16), .complete(data: [5]))], .none,
            count: 2
        ) { $0.control(1, Self.vendorOut, [1, 2, 3]) + $0.bulkIn(2, 16) }
        #expect(answers.map(\.data) == [[], [5]])
    }

    @Test("a device that moves less than it was sent is told of as it is")
    func shortOut() async throws {
        let answers = try await answers(
            [.submit(.out(0x02, [1, 2, 3, 4]), .complete(.stall, actualLength: 2))], count: 1
        ) { $0.bulkOut(1, [1, 2, 3, 4]) }
        #expect(answers == [Packet(kind: .bulk, id: 1, endpoint: 0x02, status: .stall, length: 2)])
    }

    @Test("a stall's data come with it")
    func stallWithData() async throws {
        let answers = try await answers([.submit(.in(0x81, 512), .complete(.stall, data: [1, 2]))], count: 1) {
            $0.bulkIn(1, 512)
        }
        #expect(
            answers == [Packet(kind: .bulk, id: 1, endpoint: 0x81, status: .stall, length: 2, data: [1, 2])])
    }

    @Test("R3: an endpoint that the device hasn't, or that is of another type, is invalid")
    func noEndpoint() async throws {
        let answers = try await answers([], count: 5) {
            $0.bulkIn(1, 8, endpoint: 0x8f) + $0.bulkOut(2, [1], endpoint: 0x0f) + $0.bulkIn(3, 8, endpoint: 0x80)
                + $0.interruptOut(4, [1], endpoint: 0x0e) + $0.bulkIn(5, 8, streamID: 65_536)
        }
        #expect(answers.map(\.id) == [1, 2, 3, 4, 5])
        #expect(answers.allSatisfy { $0.status == .invalid && $0.length == 0 })
        #expect(answers.last?.streamID == 65_536)
    }

    @Test("a transfer that is longer than a message may be is invalid, before there is memory for it")
    func tooLong() async throws {
        let answers = try await answers([], count: 1) { $0.bulkIn(1, RedirLimits.message + 1) }
        #expect(answers == [Packet(kind: .bulk, id: 1, endpoint: 0x81, status: .invalid, length: 0)])
    }

    @Test("a bulk stream's number comes back")
    func streamID() async throws {
        let answers = try await answers(
            [.submit(.in(0x81, 512), .complete(data: [1]))], count: 1, descriptors: RedirHelloTests.superSpeed(),
            alternate: 0
        ) { $0.bulkIn(1, 512, streamID: 3) }
        #expect(answers.first?.streamID == 3)
        #expect(answers.first?.status == .success)
    }

    // MARK: - Interrupt

    @Test("an interrupt OUT transfer's data reach the device")
    func interruptOut() async throws {
        let answers = try await answers([.submit(.out(0x06, [1, 2, 3]), .complete())], count: 1) {
            $0.interruptOut(4, [1, 2, 3])
        }
        #expect(answers == [Packet(kind: .interrupt, id: 4, endpoint: 0x06, length: 3)])
    }

    @Test("an interrupt OUT transfer's id may come again at once: QEMU takes it for done when it's sent")
    func interruptID() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: 2)
        let peer = try await rig.connect()
        peer.send(peer.wire.interruptOut(4, [1]) + peer.wire.interruptOut(4, [2]))
        let held = await rig.held(2, afterCalls: 2)
        for urb in held { urb.complete() }
        #expect(
            await peer.next(2)
                == Array(repeating: .packet(Packet(kind: .interrupt, id: 4, endpoint: 0x06, length: 1)), count: 2))
        await rig.finish(peer)
    }

    // MARK: - Many

    @Test("a bulk endpoint's answers come in the order of its transfers, whichever ends first")
    func order() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        for id in 1...3 { peer.send(peer.wire.bulkIn(UInt64(id), 16)) }
        peer.send(peer.wire.bulkOut(4, [1]))
        let held = await rig.held(4, afterCalls: 4)
        held[2].complete(data: [3])
        held[1].complete(data: [2])
        // The other endpoint doesn't wait for this one.
        held[3].complete()
        #expect(await peer.nextPacket()?.id == 4)
        held[0].complete(data: [1])
        #expect(
            await peer.next(3)
                == (1...3).map {
                    .packet(Packet(kind: .bulk, id: $0, endpoint: 0x81, length: 1, data: [UInt8($0)]))
                })
        await rig.finish(peer)
    }

    @Test("a transfer that is refused, or cancelled, keeps its place among the answers, or gives it up")
    func refusedInOrder() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(
            peer.wire.bulkIn(1, 16) + peer.wire.bulkIn(2, RedirLimits.message + 1) + peer.wire.bulkIn(3, 16)
                + peer.wire.bulkIn(4, 16))
        let held = await rig.held(3, afterCalls: 3)
        held[2].complete(data: [4])
        peer.send(peer.wire.cancel(3))
        // A cancel's answer waits for nobody.
        #expect(await peer.nextPacket()?.id == 3)
        held[0].complete(data: [1])
        var packets: [Packet] = []
        for _ in 0..<3 { if let packet = await peer.nextPacket() { packets.append(packet) } }
        #expect(packets.map(\.id) == [1, 2, 4])
        #expect(packets.map(\.status) == [.success, .invalid, .success])
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }

    @Test("answers that wait for an earlier one's are dropped with the connection")
    func orderEnds() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        for id in 1...3 { peer.send(peer.wire.bulkIn(UInt64(id), 16)) }
        let held = await rig.held(3, afterCalls: 3)
        held[2].complete(data: [3])
        held[1].complete(data: [2])
        peer.close()
        #expect(redirEventually { rig.device.inFlight == 0 && rig.device.pool.outstanding == 0 })
        await rig.finish(peer)
    }

    @Test("as many as there are slots are in flight; one more fails, and one that is done makes room")
    func slots() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        let count = RedirLimits.urbs
        for id in 0..<count { peer.send(peer.wire.bulkIn(UInt64(id), 16)) }
        // Of another endpoint: its answer waits for none of those.
        peer.send(peer.wire.bulkOut(UInt64(count), [1]))
        let refused = await peer.nextPacket()
        #expect(refused?.id == UInt64(count))
        #expect(refused?.status == .ioError)
        rig.backend.completeNext(data: [1])
        #expect(await peer.nextPacket()?.status == .success)
        peer.send(peer.wire.bulkIn(1000, 16))
        await rig.backend.calls.wait(for: count + 1)
        #expect(rig.device.inFlight == count)
        await rig.finish(peer)
    }

    @Test("completions on several threads at once: each transfer is answered once, with its own data")
    func race() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        let count = 200
        for id in 0..<count { peer.send(peer.wire.bulkOut(UInt64(id), [UInt8(id)])) }
        let held = await rig.held(count, afterCalls: count)
        await Threads.run(4) { thread in
            for index in stride(from: thread, to: count, by: 4) { held[index].complete() }
        }
        var ids: Set<UInt64> = []
        for _ in 0..<count {
            let packet = try #require(await peer.nextPacket())
            #expect(packet.length == 1)
            ids.insert(packet.id)
        }
        #expect(ids.count == count)
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }
}
