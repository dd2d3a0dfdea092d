// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: ends, quiet, back pressure")
struct USBIPEndTests {
    @Test("K1: a peer that closes has its URBs cancelled, and is told of", arguments: [false, true])
    func closed(isTCP: Bool) async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold), isTCP: isTCP)
        let peer = try await rig.connect()
        for seqnum in 0..<20 as Range<UInt32> { peer.send(peer.wire.bulkIn(seqnum, seqnum % 2 == 0 ? 64 : 65536)) }
        await rig.backend.calls.wait(for: 20)
        peer.close()
        #expect(await rig.waitForEnd() == .closed)
        #expect(rig.device.inFlight == 0 && rig.device.pool.outstanding == 0)
        await rig.finish(peer)
    }

    @Test("K1: a peer that resets the connection, too")
    func reset() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold), isTCP: true)
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        peer.reset()
        #expect(await rig.waitForEnd() == .reset)
        #expect(rig.device.inFlight == 0)
        await rig.finish()
    }

    @Test("K1: a reset is found out while nothing is read", arguments: [false, true])
    func resetWhileQuiet(isReset: Bool) async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold), isTCP: true)
        let peer = try await rig.connect()
        rig.export.quiet()
        peer.send(peer.wire.bulkIn(1, 64))
        if isReset { peer.reset() } else { peer.close() }
        #expect(await rig.waitForEnd() == (isReset ? .reset : .closed))
        await rig.finish()
    }

    @Test(
        "K1, T10: a peer that has gone before the answer to its import has imported for a moment",
        arguments: [false, true])
    func goneAtOnce(isTCP: Bool) async throws {
        for _ in 0..<30 {
            let rig = try USBIPRig(isTCP: isTCP)
            let peer = try USBIPPeer(rig.target)
            peer.send(USBIPWire.importDevice())
            peer.close()
            #expect(await rig.waitForEnd() != nil)
            #expect(rig.export.status.state == .resting)
            await rig.finish()
        }
    }

    @Test("K1, T10: a peer that goes in the middle of answers takes nobody with it", arguments: [false, true])
    func goneWhileAnswered(isTCP: Bool) async throws {
        for round in 0..<30 {
            let rig = try USBIPRig(ScriptedBackend(always: .complete(data: usbipPattern(20_000))), isTCP: isTCP)
            let peer = try USBIPPeer(rig.target)
            peer.send(USBIPWire.importDevice())
            await rig.waitForImport()
            peer.send((0..<20 as Range<UInt32>).flatMap { peer.wire.bulkIn($0, 20_000) })
            if round % 2 == 0 { peer.send((20..<40 as Range<UInt32>).flatMap { peer.wire.bulkIn($0, 20_000) }) }
            if isTCP { peer.reset() } else { peer.close() }
            #expect(await rig.waitForEnd() != nil)
            await rig.finish()
        }
    }

    @Test("the lease is kept until the last URB has ended")
    func lastURB() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        let held = await rig.held(1, afterCalls: 1)
        peer.close()
        await rig.backend.calls.wait(for: 2)
        #expect(rig.export.status.state == .imported)
        #expect(rig.events.count == 1)
        held.first?.complete(.cancelled)
        #expect(await rig.waitForEnd() == .closed)
        #expect(rig.export.status.state == .resting)
        await rig.finish(peer)
    }

    @Test("K8: a source that hangs holds up nobody, and may still end its URBs")
    func hangs() async throws {
        var patience = USBIPPatience()
        patience.ending = .milliseconds(20)
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]), patience: patience)
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        let held = await rig.held(1, afterCalls: 1)
        peer.close()
        guard case .ended(_, _, .closed, unfinished: 1)? = await rig.events.wait(for: 2).last else {
            Issue.record("no event")
            return
        }
        held.first?.complete(.cancelled)
        await rig.finish(peer)
    }

    @Test("a device that is taken back ends its session, and nothing is told of it")
    func withdrawn() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        await rig.export.end()
        #expect(rig.device.inFlight == 0)
        #expect(rig.export.status.state == .withdrawn)
        #expect(await peer.untilClosed() == [])
        // A second time, there's nothing to do.
        await rig.export.end()
        await rig.finish(peer)
        #expect(rig.events.count == 1)
    }

    @Test("a front that stops ends all of it")
    func stop() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        let waiting = try USBIPPeer(rig.target)
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        await rig.front.stop()
        #expect(await peer.untilClosed() == [])
        #expect(await waiting.bytesUntilClosed() == [])
        #expect(rig.device.inFlight == 0)
        await rig.device.close()
    }

    @Test("U10: what is said to a device that is quiet waits, transfers in flight go on")
    func quiet() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        let held = await rig.held(1, afterCalls: 1)
        rig.export.quiet()
        // What is known when this one has ended, the loop has heard of.
        held.first?.complete(data: [1])
        #expect(await peer.next() == .done(1, [1]))
        // Less than the kernel keeps of it.
        let count = 2000
        for seqnum in 0..<count { peer.expectData(UInt32(seqnum)) }
        peer.send((0..<count).flatMap { peer.wire.bulkIn(UInt32($0), 0) })
        peer.send(peer.wire.unlink(70000, 3))
        #expect(rig.device.inFlight == 0 && rig.backend.calls.count == 1)
        rig.export.resume()
        // As many are in flight as may be, the others are refused.
        await rig.backend.calls.wait(for: 1 + USBIPLimits.urbs)
        let refused = await peer.next(count - USBIPLimits.urbs)
        #expect(refused.allSatisfy { if case .submit(let reply) = $0 { reply.status == -12 } else { false } })
        #expect(await peer.next() == .unlink(70000, -104))
        rig.backend.completeAll(.success)
        #expect(await peer.next(USBIPLimits.urbs - 1).count == USBIPLimits.urbs - 1)
        await rig.finish(peer)
    }

    @Test("a device that is quiet when it's imported stays so until it resumes")
    func quietBefore() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete()))
        rig.export.quiet()
        let peer = try USBIPPeer(rig.target)
        peer.startReading()
        peer.send(USBIPWire.importDevice() + peer.wire.bulkOut(1, []))
        guard case .imported(status: 0, _)? = await peer.next() else {
            Issue.record("no import")
            return
        }
        #expect(rig.backend.calls.count == 0)
        rig.export.resume()
        #expect(await peer.next() == .done(1))
        await rig.finish(peer)
    }

    @Test(
        "K4: from a peer that doesn't read nothing more is read, and it's cut at the deadline",
        arguments: [false, true])
    func deaf(isTCP: Bool) async throws {
        var patience = USBIPPatience()
        patience.look = .milliseconds(10)
        patience.reading = .milliseconds(100)
        let rig = try USBIPRig(
            ScriptedBackend(always: .complete(data: usbipPattern(65536))), isTCP: isTCP, patience: patience)
        let peer = try await rig.connectDeaf()
        // Until it's cut: what it asks for is far more than it may have.
        async let talking: Void = Threads.run(1) { _ in
            for seqnum in 0..<(1 << 20) as Range<UInt32> where !peer.send(peer.wire.bulkIn(seqnum, 65536)) { return }
        }
        #expect(await rig.waitForEnd() == .deaf)
        await talking
        // A queue and what the kernels' sockets hold.
        #expect(rig.backend.calls.count * 65536 < 64 << 20)
        await rig.finish(peer)
    }

    @Test("K4: a peer that reads late gets all, in order")
    func late() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete(data: usbipPattern(65536))))
        let peer = try await rig.connectDeaf()
        let count = 200 as UInt32
        for seqnum in 0..<count { peer.expectData(seqnum) }
        async let talking: Void = Threads.run(1) { _ in
            for seqnum in 0..<count { peer.send(peer.wire.bulkIn(seqnum, 65536)) }
        }
        // Before anything is read, it waits.
        #expect(usbipEventually { rig.backend.calls.count > 32 })
        peer.startReading()
        await talking
        let heard = await peer.next(Int(count) + 1).dropFirst()
        #expect(heard.elementsEqual((0..<count).map { .done($0, usbipPattern(65536)) }))
        await rig.finish(peer)
    }

    @Test("what is asked for in one read, and is far more than may wait, comes in order")
    func burst() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete(data: usbipPattern(1 << 18))))
        let peer = try await rig.connect()
        let count = 400 as UInt32
        for seqnum in 0..<count { peer.expectData(seqnum) }
        peer.send((0..<count).flatMap { peer.wire.bulkIn($0, 1 << 18) })
        let heard = await peer.next(Int(count))
        #expect(heard.count == Int(count))
        for (seqnum, message) in heard.enumerated() {
            guard case .submit(let reply) = message else { continue }
            #expect(reply.seqnum == UInt32(seqnum) && reply.length == 1 << 18)
        }
        await rig.finish(peer)
    }

    @Test("status tells of what is in flight, and since when nothing was")
    func status() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        #expect(rig.export.status == USBIPStatus(state: .free))
        let peer = try await rig.connect()
        #expect(rig.export.status.idle == nil)
        // An interrupt endpoint is polled by its driver, whoever works with the device.
        peer.send(peer.wire.bulkIn(9, 8, endpoint: 5))
        await rig.held(1, afterCalls: 1).first?.complete()
        #expect(await peer.next() == .done(9, []))
        #expect(rig.export.status.idle == nil)
        peer.send(peer.wire.bulkIn(1, 64))
        let held = await rig.held(1, afterCalls: 2)
        #expect(rig.export.status.inFlight == 1)
        held.first?.complete()
        #expect(await peer.next() == .done(1, []))
        #expect(rig.export.status.inFlight == 0 && rig.export.status.idle != nil)
        await rig.finish(peer)
    }
}
