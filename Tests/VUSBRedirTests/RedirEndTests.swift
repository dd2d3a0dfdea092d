// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

/// Whoever ends it, at whatever stage: every URB completes and no buffer is kept, though the port is.
@Suite("redirect: ends")
struct RedirEndTests {
    enum Stage: CaseIterable, Sendable {
        case waiting, connected, greeted, transfers, cancelled, changing, resetting, interrupt, isochronousIn
        case isochronousOut, prefilling, bulkReceiving, quiet
    }

    enum Side: CaseIterable, Sendable {
        case peer, port, device, violation
    }

    /// A rig at that stage, and the peer; nil before one has connected.
    private func rig(at stage: Stage) async throws -> (RedirRig, RedirPeer?) {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: stage == .interrupt ? 2 : 1)
        if stage == .waiting { return (rig, nil) }
        if stage == .connected {
            let peer = try RedirPeer(path: rig.port.socketPath)
            peer.startReading()
            #expect(await peer.next() == .hello("vusb test"))
            return (rig, peer)
        }
        let peer = try await rig.connect()
        try await reach(stage, rig, peer)
        return (rig, peer)
    }

    private func reach(_ stage: Stage, _ rig: RedirRig, _ peer: RedirPeer) async throws {
        let wire = peer.wire
        let setup = SetupPacket(bmRequestType: 0xc0, bRequest: 1, wValue: 0, wIndex: 0, wLength: 64)
        let (said, calls): ([UInt8], Int) =
            switch stage {
            case .waiting, .connected, .greeted: ([], 0)
            case .transfers: (wire.control(1, setup) + wire.bulkIn(2, 3 << 20) + wire.bulkOut(3, [1, 2]), 3)
            // The submit, the cancel.
            case .cancelled: (wire.bulkIn(1, 8) + wire.cancel(1), 2)
            case .changing: (wire.setInterface(1, 0, 0) + wire.bulkIn(2, 8), 1)
            case .resetting: (wire.bulkIn(1, 8) + wire.reset() + wire.bulkIn(2, 8), 3)
            case .interrupt: (wire.startInterrupt(0x85), 4)
            case .isochronousIn: (wire.startIsochronous(0x83, packets: 8, urbs: 4), 4)
            case .isochronousOut:
                (
                    wire.startIsochronous(0x04, packets: 1, urbs: 4)
                        + (1...4).flatMap { wire.isochronousOut([UInt8($0)]) }, 4
                )
            case .prefilling: (wire.startIsochronous(0x04, packets: 2, urbs: 8) + wire.isochronousOut([1]), 0)
            case .bulkReceiving: (wire.startBulk(0x81, bytes: 4096, transfers: 4), 4)
            case .quiet: (wire.bulkIn(1, 8), 1)
            }
        peer.send(said)
        await rig.backend.calls.wait(for: calls)
        if stage == .prefilling { #expect(await peer.all() == [.isochronousStatus(0x04, .success)]) }
        if stage == .quiet { rig.port.quiet() }
    }

    @Test("R17, R18: every URB completes, no buffer is kept", arguments: Stage.allCases, Side.allCases)
    func end(stage: Stage, side: Side) async throws {
        let (rig, peer) = try await rig(at: stage)
        switch side {
        case .peer: peer?.close()
        case .port: rig.port.end()
        case .device: await rig.device.close()
        case .violation: peer?.send(Array(repeating: 0xff, count: 64))
        }
        // A peer that isn't listened to just now is, once the change is done and the device resumes.
        if stage == .changing { rig.backend.completeAll(.io) }
        if stage == .quiet { rig.port.resume() }
        if let peer, side == .peer || side == .violation { _ = await peer.untilClosed() }
        if side == .port, let peer {
            // Who has said no hello hasn't heard of a device either.
            let farewell: [RedirHeard] = stage == .connected ? [] : [.disconnect]
            #expect(await peer.untilClosed().filter { $0 == .disconnect } == farewell)
        }
        // Where only the device has gone, what the guest has filled is its stream's until that ends.
        let kept = side == .device && stage == .prefilling ? 2 : 0
        #expect(redirEventually { rig.device.inFlight == 0 && rig.device.pool.outstanding == kept })
        if let peer { await rig.finish(peer) } else { await rig.finish() }
    }

    @Test("a port that ends before anybody has connected takes its socket with it, and says nothing")
    func endedEarly() async throws {
        let rig = try RedirRig()
        rig.port.end()
        #expect(throws: (any Error).self) { try RedirPeer(path: rig.port.socketPath) }
        #expect(rig.port.status.state == .closed)
        #expect(rig.port.isOver)
        await rig.finish()
        #expect(rig.events.count == 0)
    }

    @Test("what the control plane ended isn't told of; ending twice changes nothing")
    func endedTwice() async throws {
        let rig = try RedirRig()
        let peer = try await rig.connect()
        rig.port.end()
        rig.port.end()
        #expect(await peer.untilClosed() == [.disconnect])
        rig.port.end()
        await rig.finish(peer)
        #expect(rig.events.elements == [.connected(peer: "peer 1")])
    }

    @Test("a session isn't kept by a completion that comes when the loop has ended")
    func lateCompletion() async throws {
        weak var kept: RedirFront?
        let backend = ScriptedBackend([.submit(.init(), .hold), .cancel(.ignore)])
        do {
            let rig = try RedirRig(backend)
            kept = rig.front
            let peer = try await rig.connect()
            peer.send(peer.wire.setConfiguration(1, 1))
            await backend.calls.wait(for: 1)
            rig.port.end()
            #expect(await peer.untilClosed() == [.disconnect])
            await rig.front.stop()
            backend.completeNext()
            await rig.finish(peer)
        }
        #expect(redirEventually { kept == nil })
    }

    @Test("peers that end while the device is taken away, at once")
    func race() async throws {
        for round in 0..<20 {
            let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: 2)
            let peer = try await rig.connect()
            peer.send(peer.wire.startInterrupt(0x85) + peer.wire.bulkIn(1, 64) + peer.wire.bulkOut(2, [1]))
            await Threads.run(3) { thread in
                switch (thread + round) % 3 {
                case 0: peer.close()
                case 1: rig.port.end()
                default: rig.device.disconnect()
                }
            }
            _ = await peer.untilClosed()
            #expect(redirEventually { rig.device.inFlight == 0 && rig.device.pool.outstanding == 0 })
            await rig.finish(peer)
        }
    }
}
