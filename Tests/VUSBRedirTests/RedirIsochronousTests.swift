// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

/// The sample device's endpoints 0x83 and 0x04: 1024 bytes a packet.
@Suite("redirect: isochronous streams")
struct RedirIsochronousTests {
    typealias Packet = RedirHeard.Packet

    private static let size = 1024

    private func start(
        _ endpoint: UInt8, packets: UInt8, urbs: UInt8, _ backend: ScriptedBackend = ScriptedBackend(always: .hold)
    ) async throws -> (rig: RedirRig, peer: RedirPeer) {
        let rig = try RedirRig(backend, alternate: 1)
        let peer = try await rig.connect()
        peer.send(peer.wire.startIsochronous(endpoint, packets: packets, urbs: urbs))
        #expect(await peer.next() == .isochronousStatus(endpoint, .success))
        return (rig, peer)
    }

    private func packet(_ id: UInt64, _ data: [UInt8], _ status: RedirWord = .success) -> RedirHeard {
        .packet(
            Packet(kind: .isochronous, id: id, endpoint: 0x83, status: status, length: data.count, data: data))
    }

    // MARK: - IN

    @Test("packets come with their own lengths and statuses, and ids that count up over URBs")
    func input() async throws {
        let (rig, peer) = try await start(0x83, packets: 3, urbs: 2)
        await rig.backend.calls.wait(for: 2)
        #expect(rig.backend.held.map(\.requestedLength) == [3 * Self.size, 3 * Self.size])
        #expect(rig.port.status.streams == 1)
        rig.backend.held.first?.completeIsochronous([(2, 0), (0, -71), (3, 0)], errorCount: 1)
        // Byte j of packet i is 16 * i + j.
        #expect(
            await peer.next(3) == [packet(0, [0, 1]), packet(1, [], .ioError), packet(2, [32, 33, 34])])
        await rig.backend.calls.wait(for: 3)
        rig.backend.held.first?.completeIsochronous([(0, 0), (1, -75), (1, 0)])
        #expect(await peer.next(3) == [packet(3, []), packet(4, [16], .babble), packet(5, [32])])
        #expect(rig.device.inFlight == 2)
        await rig.finish(peer)
    }

    @Test("a URB of more packets than go out at once comes whole", arguments: [RedirCapabilities.all, .none])
    func manyPackets(_ form: RedirCapabilities) async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: 1)
        let peer = try await rig.connect(form)
        peer.send(peer.wire.startIsochronous(0x83, packets: 255, urbs: 4))
        #expect(await peer.next() == .isochronousStatus(0x83, .success))
        await rig.backend.calls.wait(for: 4)
        rig.backend.held.first?.completePackets(fill: 7)
        let full = Array(repeating: UInt8(7), count: Self.size)
        #expect(await peer.next(255) == (0..<255).map { packet($0, full) })
        await rig.finish(peer)
    }

    @Test("a URB that fails as a whole goes on; a stall ends the stream")
    func failures() async throws {
        let (rig, peer) = try await start(0x83, packets: 1, urbs: 2)
        await rig.backend.calls.wait(for: 2)
        rig.backend.completeNext(.io)
        // Packets that the source left alone: nothing came.
        #expect(await peer.next() == packet(0, []))
        await rig.backend.calls.wait(for: 3)
        rig.backend.completeNext(.stall)
        #expect(await peer.next() == .isochronousStatus(0x83, .stall))
        #expect(rig.device.inFlight == 0)
        await rig.finish(peer)
    }

    @Test("R9: stop cancels what is in flight, and no packet comes behind its answer")
    func stop() async throws {
        let (rig, peer) = try await start(0x83, packets: 8, urbs: 4)
        await rig.backend.calls.wait(for: 4)
        peer.send(peer.wire.stopIsochronous(0x83))
        #expect(await peer.next() == .isochronousStatus(0x83, .success))
        #expect(await peer.all() == [])
        #expect(rig.device.inFlight == 0)
        #expect(rig.port.status.streams == 0)
        await rig.finish(peer)
    }

    @Test(
        "absurd wishes are invalid",
        arguments: [(0x83, 0, 1), (0x83, 1, 0), (0x83, 255, 255), (0x81, 1, 1), (0x8f, 1, 1), (0x84, 1, 1)]
            as [(UInt8, UInt8, UInt8)])
    func absurd(endpoint: UInt8, packets: UInt8, urbs: UInt8) async throws {
        let rig = try RedirRig(ScriptedBackend([]), alternate: 1)
        let peer = try await rig.connect()
        peer.send(peer.wire.startIsochronous(endpoint, packets: packets, urbs: urbs))
        #expect(await peer.next() == .isochronousStatus(endpoint, .invalid))
        #expect(rig.port.status.streams == 0)
        await rig.finish(peer)
    }

    @Test("what a URB of the stream would need is more than the pool has: the stream stalls at once")
    func noMemory() async throws {
        let bytes =
            DescriptorBytes.device(bcdUSB: 0x0300, maxPacketSize0: 9)
            + DescriptorBytes.configuration([
                DescriptorBytes.interface(0, endpoints: 1),
                DescriptorBytes.endpoint(0x81, .isochronous, maxPacketSize: 1024, interval: 1),
                DescriptorBytes.companion(burst: 15, bytesPerInterval: 48 << 10),
            ])
        let rig = try RedirRig(descriptors: Descriptors(parsing: bytes), speed: .super)
        let peer = try await rig.connect()
        // 60 packets of 48 KiB: 2.8 MiB.
        peer.send(peer.wire.startIsochronous(0x81, packets: 60, urbs: 1))
        #expect(await peer.next(2) == [.isochronousStatus(0x81, .success), .isochronousStatus(0x81, .stall)])
        // 255 packets: 12 MiB, more than any stream may have.
        peer.send(peer.wire.startIsochronous(0x81, packets: 255, urbs: 1))
        #expect(await peer.next() == .isochronousStatus(0x81, .invalid))
        await rig.finish(peer)
    }

    // MARK: - OUT

    /// Packets that say which they are.
    private func packets(_ peer: RedirPeer, _ numbers: ClosedRange<UInt8>) -> [UInt8] {
        numbers.flatMap { peer.wire.isochronousOut([$0, $0 &* 2]) }
    }

    /// The first bytes of each packet of a URB.
    private func firsts(_ urb: ManualCompletion, packets: Int) -> [UInt8] {
        (0..<packets).map { urb.bytes[$0 * Self.size] }
    }

    @Test("R11: nothing is sent until half of the URBs are full; then they go out in order")
    func prefill() async throws {
        let (rig, peer) = try await start(0x04, packets: 2, urbs: 4)
        peer.send(packets(peer, 1...3))
        #expect(await peer.all() == [])
        #expect(rig.backend.calls.count == 0)
        peer.send(packets(peer, 4...4))
        #expect(await peer.all() == [])
        #expect(rig.backend.held.map { firsts($0, packets: 2) } == [[1, 2], [3, 4]])
        // What is full now follows at once.
        peer.send(packets(peer, 5...6))
        #expect(await peer.all() == [])
        #expect(rig.backend.held.map { firsts($0, packets: 2) } == [[1, 2], [3, 4], [5, 6]])
        await rig.finish(peer)
    }

    @Test("packets have the lengths that they came with; those that are too long are dropped")
    func lengths() async throws {
        let (rig, peer) = try await start(0x04, packets: 4, urbs: 1)
        for count in [0, 1, Self.size + 1, 1000, Self.size] { peer.send(peer.wire.isochronousOut(redirPattern(count))) }
        #expect(await peer.all() == [])
        let urb = try #require(rig.backend.held.first)
        #expect(Array(urb.bytes[2 * Self.size..<2 * Self.size + 1000]) == redirPattern(1000))
        // Each packet with all of its bytes.
        urb.completePackets()
        #expect(rig.device.counters.bytesOut == UInt64(0 + 1 + 1000 + Self.size))
        await rig.finish(peer)
    }

    @Test("R11: what comes when all URBs are in flight is dropped; one that ends makes room")
    func overflow() async throws {
        let (rig, peer) = try await start(0x04, packets: 2, urbs: 2)
        peer.send(packets(peer, 1...9))
        #expect(await peer.all() == [])
        #expect(rig.backend.held.map { firsts($0, packets: 2) } == [[1, 2], [3, 4]])
        rig.backend.held.first?.completePackets()
        peer.send(packets(peer, 10...13))
        #expect(await peer.all() == [])
        #expect(rig.backend.held.map { firsts($0, packets: 2) } == [[3, 4], [10, 11]])
        await rig.finish(peer)
    }

    @Test("R11: after an underrun it's filled up to half again")
    func underrun() async throws {
        let (rig, peer) = try await start(0x04, packets: 1, urbs: 4)
        peer.send(packets(peer, 1...2))
        #expect(await peer.all() == [])
        for urb in rig.backend.held { urb.completePackets() }
        peer.send(packets(peer, 3...3))
        #expect(await peer.all() == [])
        #expect(rig.backend.held.isEmpty)
        peer.send(packets(peer, 4...4))
        #expect(await peer.all() == [])
        #expect(rig.backend.held.map { firsts($0, packets: 1) } == [[3], [4]])
        await rig.finish(peer)
    }

    @Test("packets for a stream that there isn't, or of the wrong direction, are dropped")
    func noStream() async throws {
        let (rig, peer) = try await start(0x04, packets: 1, urbs: 1, ScriptedBackend([]))
        peer.send(peer.wire.isochronousOut([1], endpoint: 0x05) + peer.wire.isochronousOut([1], endpoint: 0x02))
        peer.send(peer.wire.stopIsochronous(0x04) + peer.wire.isochronousOut([1]))
        #expect(await peer.next() == .isochronousStatus(0x04, .success))
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }

    @Test("a stall ends it, with what waits to be sent")
    func outputStall() async throws {
        let (rig, peer) = try await start(0x04, packets: 2, urbs: 4)
        // Two URBs in flight and one half full.
        peer.send(packets(peer, 1...5))
        #expect(await peer.all() == [])
        rig.backend.completeNext(.stall)
        #expect(await peer.next() == .isochronousStatus(0x04, .stall))
        #expect(rig.device.inFlight == 0)
        #expect(rig.device.pool.outstanding == 0)
        // It can begin anew.
        peer.send(peer.wire.startIsochronous(0x04, packets: 1, urbs: 1) + packets(peer, 6...6))
        #expect(await peer.next() == .isochronousStatus(0x04, .success))
        #expect(await peer.all() == [])
        #expect(rig.backend.held.count == 1)
        await rig.finish(peer)
    }

    @Test("stop gives back what was filled and not sent")
    func outputStop() async throws {
        let (rig, peer) = try await start(0x04, packets: 2, urbs: 8)
        peer.send(packets(peer, 1...5) + peer.wire.stopIsochronous(0x04))
        #expect(await peer.next() == .isochronousStatus(0x04, .success))
        #expect(rig.device.pool.outstanding == 0)
        await rig.finish(peer)
    }

    @Test("packets that come while URBs end on another thread: all are sent or dropped, none is lost or kept")
    func race() async throws {
        let (rig, peer) = try await start(0x04, packets: 4, urbs: 8)
        let count = 400
        await Threads.run(2) { thread in
            if thread == 0 {
                for number in 0..<count { peer.send(peer.wire.isochronousOut([UInt8(truncatingIfNeeded: number)])) }
            } else {
                // A stream that is filled to half by then.
                while rig.device.counters.bytesOut < 32 {
                    rig.backend.held.first?.completePackets()
                    Threads.yield()
                }
            }
        }
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }
}
