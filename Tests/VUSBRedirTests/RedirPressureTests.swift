// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

/// Guests that don't read what they are sent.
@Suite("redirect: back-pressure")
struct RedirPressureTests {
    /// What waited for the peer at most, seen at each submit.
    private final class Watch: Sendable {
        private let state = Mutex<(port: RedirPort?, most: Int)>((nil, 0))

        var most: Int { state.withLock { $0.most } }
        func watch(_ port: RedirPort) { state.withLock { $0.port = port } }

        func look() {
            guard let port = state.withLock({ $0.port }) else { return }
            let count = port.status.bytesWaiting
            state.withLock { $0.most = max($0.most, count) }
        }
    }

    /// Answers each IN transfer with `count` bytes at once.
    private func rig(_ watch: Watch, count: Int) throws -> RedirRig {
        let data = Array(repeating: UInt8(5), count: count)
        let rig = try RedirRig(
            ScriptedBackend(
                always: .run { urb in
                    watch.look()
                    urb.complete(data: urb.requestedLength > 0 ? data : [])
                }))
        watch.watch(rig.port)
        return rig
    }

    @Test("R14: above the mark no request is read; as the guest reads, all are answered, in order")
    func transfers() async throws {
        let watch = Watch()
        let rig = try rig(watch, count: 60_000)
        let peer = try await rig.connectDeaf()
        let count = 300
        for id in 0..<count { peer.send(peer.wire.bulkIn(UInt64(id), 60_000)) }
        #expect(redirEventually { rig.port.status.bytesWaiting > RedirLimits.outboxHigh })
        #expect(rig.backend.calls.count < count)
        peer.startReading()
        let heard = await peer.next(4 + count).dropFirst(4)
        let ids = heard.map { message -> UInt64? in
            guard case .packet(let packet) = message, packet.data.count == 60_000 else { return nil }
            return packet.id
        }
        #expect(ids == (0..<UInt64(count)).map(\.self))
        #expect(watch.most <= RedirLimits.outboxHigh)
        await rig.finish(peer)
    }

    @Test("R14: messages that aren't data count too: who asks for them and doesn't read isn't read either")
    func messages() async throws {
        let device = try SampleDevice.attach(ScriptedBackend(), descriptors: SampleDevice.zero())
        let loop = try RedirLoop()
        var descriptors: [Int32] = [0, 0]
        let result = unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &descriptors)
        try #require(result == 0)
        #expect(fcntl(descriptors[0], F_SETFL, O_NONBLOCK) == 0)
        let session = RedirSession(descriptors[0], device: device, loop: loop) { _ in }
        session.begin(version: "vusb test")
        // What 200 000 answers of a few bytes come to.
        let count = 5 << 20
        guard let memory = unsafe calloc(count, 1) else { throw USBError(.io, "no memory") }
        unsafe session.append(RedirBytes(owning: memory.assumingMemoryBound(to: UInt8.self), count: count))
        #expect(session.isHeld)
        session.poke()
        // Hello and all of it, but for the last MiB: then it's read again.
        var buffer = Array(repeating: UInt8(0), count: 1 << 20)
        var received = 0
        while received < count {
            let moved = unsafe recv(descriptors[1], &buffer, buffer.count, 0)
            guard moved > 0 else { break }
            received += moved
        }
        #expect(received >= count)
        #expect(redirEventually { !session.isHeld })
        close(descriptors[1])
        #expect(redirEventually { session.isClosed })
        await loop.stop()
    }

    @Test("R14: streams pause above the mark, and go on as the guest reads")
    func stream() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connectDeaf()
        peer.send(peer.wire.startBulk(0x81, bytes: 64 << 10, transfers: 4))
        let data = Array(repeating: UInt8(9), count: 64 << 10)
        // As a source's event thread does, until nothing is submitted any more.
        var completed = 0
        let isPaused = redirEventually {
            if rig.backend.completeNext(data: data) { completed += 1 }
            return rig.port.status.bytesWaiting > RedirLimits.outboxHigh && rig.device.inFlight == 0
        }
        #expect(isPaused)
        // The mark, what the kernel has room for, and what was in flight.
        #expect(rig.port.status.bytesWaiting > RedirLimits.outboxHigh)
        #expect(rig.port.status.bytesWaiting < RedirLimits.outboxHigh + 5 * 65_600)
        #expect(completed < 200)
        #expect(rig.device.inFlight == 0)
        peer.startReading()
        #expect(await peer.next(5 + completed).count == 5 + completed)
        // It has begun again.
        await rig.backend.calls.wait(for: completed + 4)
        rig.backend.completeNext(data: [1])
        #expect(await peer.nextPacket()?.data == [1])
        await rig.finish(peer)
    }

    @Test("a guest that goes while it's behind is known to have gone, and nothing is kept for it")
    func gone() async throws {
        let watch = Watch()
        let rig = try rig(watch, count: 60_000)
        let peer = try await rig.connectDeaf()
        for id in 0..<200 { peer.send(peer.wire.bulkIn(UInt64(id), 60_000)) }
        #expect(redirEventually { rig.port.status.bytesWaiting > RedirLimits.outboxHigh })
        peer.close()
        #expect(await rig.events.wait(for: 2, within: .seconds(5)).last == .closed(violation: nil))
        #expect(redirEventually { rig.device.pool.outstanding == 0 })
        await rig.finish()
    }

    @Test("a device that goes doesn't wait for ever for a guest that doesn't read")
    func endBehind() async throws {
        let watch = Watch()
        let rig = try rig(watch, count: 60_000)
        let peer = try await rig.connectDeaf()
        for id in 0..<200 { peer.send(peer.wire.bulkIn(UInt64(id), 60_000)) }
        #expect(redirEventually { rig.port.status.bytesWaiting > RedirLimits.outboxHigh })
        rig.port.end()
        #expect(redirEventually { rig.port.status.state == .closed && rig.device.pool.outstanding == 0 })
        peer.startReading()
        await rig.finish(peer)
    }
}
