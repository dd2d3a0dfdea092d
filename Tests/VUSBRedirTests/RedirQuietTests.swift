// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: quiet and resume")
struct RedirQuietTests {
    typealias Packet = RedirHeard.Packet

    @Test("R12: a quiet device's guest isn't read; what is in flight is answered, and what was said comes later")
    func quiet() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 8))
        await rig.backend.calls.wait(for: 1)
        rig.port.quiet()
        peer.send(peer.wire.bulkIn(2, 16))
        rig.backend.completeNext(data: [1])
        #expect(await peer.nextPacket() == Packet(kind: .bulk, id: 1, endpoint: 0x81, length: 1, data: [1]))
        #expect(rig.backend.calls.count == 1)
        #expect(rig.device.inFlight == 0)
        rig.port.resume()
        await rig.backend.calls.wait(for: 2)
        rig.backend.completeNext(data: [2])
        #expect(await peer.nextPacket() == Packet(kind: .bulk, id: 2, endpoint: 0x81, length: 1, data: [2]))
        await rig.finish(peer)
    }

    @Test("a device that is quiet when its guest connects is described once it resumes")
    func quietFirst() async throws {
        let rig = try RedirRig()
        rig.port.quiet()
        let peer = try RedirPeer(path: rig.port.socketPath)
        peer.startReading()
        peer.send(peer.wire.hello())
        #expect(await peer.next() == .hello("vusb test"))
        #expect(rig.port.status.state == .greeting)
        rig.port.resume()
        #expect(await peer.next(3).count == 3)
        #expect(rig.port.status.state == .connected)
        await rig.finish(peer)
    }

    @Test("R13: streams are parked without a word, and go on where they were")
    func parked() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: 2)
        let peer = try await rig.connect()
        peer.send(peer.wire.startInterrupt(0x85))
        _ = await peer.next()
        await rig.backend.calls.wait(for: 4)
        rig.backend.completeNext(data: [1])
        await rig.backend.calls.wait(for: 5)
        rig.port.quiet()
        #expect(redirEventually { rig.device.inFlight == 0 })
        rig.port.resume()
        // 5 submits, 4 cancels, 4 submits.
        await rig.backend.calls.wait(for: 13)
        rig.backend.completeNext(data: [2])
        #expect(
            await peer.next(2) == [
                .packet(Packet(kind: .interrupt, id: 0, endpoint: 0x85, length: 1, data: [1])),
                .packet(Packet(kind: .interrupt, id: 1, endpoint: 0x85, length: 1, data: [2])),
            ])
        #expect(await peer.all() == [])
        await rig.finish(peer)
    }

    /// An interrupt stream that was parked, by a backend that is slow to cancel: the URBs that it still has.
    private func parkedSlowly(resubmits: Int) async throws -> (RedirRig, RedirPeer, [ManualCompletion]) {
        let rig = try RedirRig(
            ScriptedBackend(
                Array(repeating: .submit(.in(0x85, 64), .hold), count: 4)
                    + Array(repeating: .cancel(.ignore), count: 4)
                    + Array(repeating: .submit(.in(0x85, 64), .hold), count: resubmits)
                    + Array(repeating: .cancel(.completeAsCancelled), count: 4)), alternate: 2)
        let peer = try await rig.connect()
        peer.send(peer.wire.startInterrupt(0x85))
        _ = await peer.next()
        await rig.backend.calls.wait(for: 4)
        let parked = rig.backend.held
        rig.port.quiet()
        await rig.backend.calls.wait(for: 8)
        return (rig, peer, parked)
    }

    @Test("a stream that resumes before its cancelled URBs have ended goes on")
    func resumedAtOnce() async throws {
        let (rig, peer, parked) = try await parkedSlowly(resubmits: 5)
        rig.port.resume()
        // The loop has seen that.
        #expect(await peer.all() == [])
        for urb in parked { urb.complete(.cancelled) }
        await rig.backend.calls.wait(for: 12)
        rig.backend.completeNext(data: [7])
        #expect(
            await peer.next() == .packet(Packet(kind: .interrupt, id: 0, endpoint: 0x85, length: 1, data: [7])))
        await rig.backend.calls.wait(for: 13)
        await rig.finish(peer)
    }

    @Test("a stream whose device takes nothing waits, without asking again and again, and goes on with a resume")
    func busy() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: 2)
        let peer = try await rig.connect()
        peer.send(peer.wire.startInterrupt(0x85))
        _ = await peer.next()
        await rig.backend.calls.wait(for: 4)
        rig.device.stopAdmitting()
        rig.backend.completeNext(data: [1])
        #expect(await peer.next() != nil)
        #expect(rig.device.inFlight == 3)
        rig.device.resumeAdmitting()
        rig.port.resume()
        await rig.backend.calls.wait(for: 5)
        #expect(rig.device.inFlight == 4)
        await rig.finish(peer)
    }

    @Test("a report that came just before the cancel isn't lost")
    func reportWhileParked() async throws {
        let (rig, peer, parked) = try await parkedSlowly(resubmits: 4)
        parked[0].complete(data: [7])
        for urb in parked.dropFirst() { urb.complete(.cancelled) }
        #expect(
            await peer.next() == .packet(Packet(kind: .interrupt, id: 0, endpoint: 0x85, length: 1, data: [7])))
        #expect(rig.device.inFlight == 0)
        rig.port.resume()
        await rig.backend.calls.wait(for: 12)
        await rig.finish(peer)
    }

    @Test("an isochronous OUT stream that was parked is filled up anew")
    func parkedOutput() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: 1)
        let peer = try await rig.connect()
        peer.send(peer.wire.startIsochronous(0x04, packets: 1, urbs: 4))
        _ = await peer.next()
        peer.send(peer.wire.isochronousOut([1]) + peer.wire.isochronousOut([2]))
        #expect(await peer.all() == [])
        #expect(rig.backend.held.count == 2)
        rig.port.quiet()
        #expect(redirEventually { rig.device.inFlight == 0 })
        rig.port.resume()
        for number in 3...8 { peer.send(peer.wire.isochronousOut([UInt8(number)])) }
        #expect(await peer.all() == [])
        #expect(rig.backend.held.count == 4)
        await rig.finish(peer)
    }

    @Test("a quiet device can go: its guest is told")
    func end() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 8))
        await rig.backend.calls.wait(for: 1)
        rig.port.quiet()
        rig.port.end()
        #expect(await peer.untilClosed() == [.disconnect])
        await rig.finish(peer)
    }

    @Test("a guest that goes while the device is quiet is known to have gone when it resumes")
    func gone() async throws {
        let rig = try RedirRig()
        let peer = try await rig.connect()
        rig.port.quiet()
        peer.close()
        rig.port.resume()
        #expect(await rig.events.wait(for: 2).last == .closed(violation: nil))
        await rig.finish(peer)
    }
}
