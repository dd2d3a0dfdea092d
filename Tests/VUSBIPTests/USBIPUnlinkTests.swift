// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: UNLINK")
struct USBIPUnlinkTests {
    @Test("U1: in flight, and cancelled")
    func cancelled() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.completeAsCancelled)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.unlink(2, 1))
        #expect(await peer.next() == .unlink(2, -104))
        // The seqnum is free again.
        peer.send(peer.wire.unlink(3, 1))
        #expect(await peer.next() == .unlink(3, 0))
        await rig.finish(peer)
    }

    @Test("U2: the device has it done first, or it's unplugged", arguments: [0, -32, -19, -121] as [Int32])
    func completedFirst(status: Int32) async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.unlink(2, 1))
        let held = await rig.held(1, afterCalls: 2)
        held.first?.complete(URBStatus(rawValue: status), data: [5])
        #expect(await peer.next(2) == [.done(1, [5], status: status), .unlink(2, 0)])
        await rig.finish(peer)
    }

    @Test("U3, U4: completed within its submit, in one read with its UNLINK")
    func completedWithin() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .complete(data: [5]))]))
        let peer = try await rig.connect()
        peer.expectData(1)
        peer.send(peer.wire.bulkIn(1, 64) + peer.wire.unlink(2, 1))
        #expect(await peer.next(2) == [.done(1, [5]), .unlink(2, 0)])
        await rig.finish(peer)
    }

    @Test("U3, U8: ended as cancelled by others, in one read with its UNLINK")
    func cancelledWithin() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .complete(.cancelled))]))
        let peer = try await rig.connect()
        peer.expectData(1)
        peer.send(peer.wire.bulkIn(1, 64) + peer.wire.unlink(2, 1))
        #expect(await peer.next(2) == [.done(1, -104), .unlink(2, 0)])
        await rig.finish(peer)
    }

    @Test("U4: answered already, or refused")
    func tooLate() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .complete())]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkOut(1, [1]))
        #expect(await peer.next() == .done(1, length: 1))
        peer.send(peer.wire.unlink(2, 1))
        #expect(await peer.next() == .unlink(2, 0))
        peer.send(peer.wire.submit(3, endpoint: 99, isIn: true, length: 1))
        peer.send(peer.wire.unlink(4, 3))
        #expect(await peer.next(2) == [.done(3, -22), .unlink(4, 0)])
        await rig.finish(peer)
    }

    @Test("U5: what never was, and its own seqnum")
    func unknown() async throws {
        let rig = try USBIPRig()
        let peer = try await rig.connect()
        for (seqnum, target) in [(1, 77), (2, 2), (0xffff_ffff, 0), (4, 0xffff_ffff)] as [(UInt32, UInt32)] {
            peer.send(peer.wire.unlink(seqnum, target))
            #expect(await peer.next() == .unlink(seqnum, 0))
        }
        await rig.finish(peer)
    }

    @Test("U5: with the seqnum of the URB that it ends")
    func sameSeqnum() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.completeAsCancelled)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.unlink(1, 1))
        #expect(await peer.next() == .unlink(1, -104))
        await rig.finish(peer)
    }

    @Test("U12: before the SUBMIT that it means, which isn't carried out")
    func early() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete()))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkOut(1, [1]))
        #expect(await peer.next() == .done(1, length: 1))
        // Two at once, and data that are dropped.
        peer.send(peer.wire.unlink(3, 2) + peer.wire.unlink(5, 4))
        peer.send(peer.wire.bulkIn(2, 64) + peer.wire.bulkOut(4, [1, 2, 3]) + peer.wire.bulkOut(6, [1]))
        #expect(await peer.next(3) == [.unlink(3, -104), .unlink(5, -104), .done(6, length: 1)])
        #expect(rig.backend.calls.count == 2)
        await rig.finish(peer)
    }

    @Test("U12: numbers that begin anew")
    func earlyAtTheEnd() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete()))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkOut(0xffff_fffe, [1]))
        #expect(await peer.next() == .done(0xffff_fffe, length: 1))
        peer.send(peer.wire.unlink(0, 0xffff_ffff) + peer.wire.bulkOut(0xffff_ffff, [1]) + peer.wire.bulkOut(1, [1]))
        #expect(await peer.next(2) == [.unlink(0, -104), .done(1, length: 1)])
        await rig.finish(peer)
    }

    @Test("U13: its SUBMIT doesn't come")
    func earlyForNothing() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete()))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkOut(1, [1]))
        peer.send(peer.wire.unlink(4, 2) + peer.wire.unlink(5, 3) + peer.wire.bulkOut(6, [1]))
        #expect(await peer.next(4) == [.done(1, length: 1), .unlink(4, 0), .unlink(5, 0), .done(6, length: 1)])
        await rig.finish(peer)
    }

    @Test("U6: a second UNLINK is answered at once, the first when the URB ends")
    func second() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.unlink(2, 1))
        let held = await rig.held(1, afterCalls: 2)
        peer.send(peer.wire.unlink(3, 1))
        #expect(await peer.next() == .unlink(3, 0))
        held.first?.complete(.cancelled)
        #expect(await peer.next() == .unlink(2, -104))
        await rig.finish(peer)
    }

    @Test("U7: cancelled when some bytes had moved")
    func partly() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.unlink(2, 1))
        let held = await rig.held(1, afterCalls: 2)
        held.first?.complete(.cancelled, data: [1, 2, 3])
        #expect(await peer.next() == .unlink(2, -104))
        await rig.finish(peer)
    }

    @Test("U8: cancelled by the control plane")
    func cancelledAbove() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        #expect(usbipEventually { rig.device.inFlight == 1 })
        rig.device.cancelAll()
        #expect(await peer.next() == .done(1, -104))
        await rig.finish(peer)
    }

    @Test("U9: the connection ends with an UNLINK unanswered")
    func connectionEnds() async throws {
        let rig = try USBIPRig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.unlink(2, 1))
        let held = await rig.held(1, afterCalls: 2)
        peer.close()
        #expect(await peer.untilClosed() == [])
        held.first?.complete(.cancelled)
        #expect(await rig.waitForEnd() == .closed)
        await rig.finish(peer)
    }

    @Test("U10: behind data that come in pieces", arguments: [1, 7, 47, 48, 49])
    func behindData(pieces: Int) async throws {
        let rig = try USBIPRig(
            ScriptedBackend([.submit(.out(0x02, usbipPattern(40)), .hold), .cancel(.completeAsCancelled)]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkOut(1, usbipPattern(40)) + peer.wire.unlink(2, 1), pieces: pieces)
        #expect(await peer.next() == .unlink(2, -104))
        await rig.finish(peer)
    }

    @Test("U11: a seqnum that is used again is another URB's")
    func seqnumAgain() async throws {
        let rig = try USBIPRig(
            ScriptedBackend([
                .submit(.any, .complete(data: [1])), .submit(.any, .hold), .cancel(.completeAsCancelled),
            ]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 64))
        #expect(await peer.next() == .done(1, [1]))
        peer.send(peer.wire.bulkIn(1, 64))
        await rig.backend.calls.wait(for: 2)
        peer.send(peer.wire.unlink(2, 1))
        #expect(await peer.next() == .unlink(2, -104))
        await rig.finish(peer)
    }

    // MARK: - Races

    /// Completes what it gets on a thread of its own, after a number of yields that a seed decides.
    private final class Racer: USBBackend {
        private struct State {
            var held: [(urb: ManualCompletion, yields: Int)] = []
            var all: [URBToken: ManualCompletion] = [:]
            var random: SplitMix
            var isClosed = false
        }

        private let state: Mutex<State>

        init(seed: UInt64) { state = Mutex(State(random: SplitMix(state: seed))) }

        func run() {
            while true {
                let next = state.withLock { state -> (urb: ManualCompletion, yields: Int)?? in
                    if state.held.isEmpty { return state.isClosed ? .some(nil) : nil }
                    return state.held.removeFirst()
                }
                guard let next else {
                    Threads.yield()
                    continue
                }
                guard let next else { return }
                for _ in 0..<next.yields { Threads.yield() }
                next.urb.complete(data: [UInt8(truncatingIfNeeded: next.yields)])
                state.withLock { $0.all[next.urb.token] = nil }
            }
        }

        func submit(_ urb: consuming URB) {
            let held = ManualCompletion(urb)
            let isNow = state.withLock { state in
                let choice = state.random.next() % 8
                guard choice > 0 else { return true }
                state.all[held.token] = held
                state.held.append((held, Int(choice) - 1))
                return false
            }
            if isNow { held.complete(data: [9]) }
        }

        func cancel(_ token: URBToken) { state.withLock { $0.all[token] }?.complete(.cancelled) }
        func reset() async throws(USBError) {}
        func close() async { state.withLock { $0.isClosed = true } }
    }

    private struct SplitMix {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            return mixed ^ (mixed >> 31)
        }
    }

    @Test("U1 to U5: each URB of thousands has one end, whoever is first", arguments: [1, 2, 3] as [UInt64])
    func races(seed: UInt64) async throws {
        let backend = Racer(seed: seed)
        let pool = BufferPool()
        let device = VirtualDevice(
            backend: backend, descriptors: DescriptorBytes.fullZero, speed: .high, configurationValue: 1, pool: pool)
        let front = USBIPFront(patience: .endless)
        let listener = try front.listen(USBIPListenerDefinition(.tcp(port: 0), .one("web1")))
        let export = try front.export(device, at: USBIPRig.place)
        async let running: Void = Threads.run(1) { _ in backend.run() }
        let peer = try USBIPPeer(.tcp(listener.port ?? 0))
        peer.startReading()
        peer.send(USBIPWire.importDevice())
        _ = await peer.next()
        let rounds: UInt32 = 2000
        for round in 0..<rounds {
            peer.expectData(2 * round)
            let submit = peer.wire.bulkIn(2 * round, round % 3 == 0 ? 16384 : 64)
            let unlink = peer.wire.unlink(2 * round + 1, 2 * round)
            // In one read, or maybe in two.
            if round % 2 == 0 {
                peer.send(submit + unlink)
            } else {
                peer.send(submit)
                peer.send(unlink)
            }
            // What is out at once is bounded.
            if round % 64 == 63 { await heardUnlinks(peer, Int(round) + 1) }
        }
        await heardUnlinks(peer, Int(rounds))
        check(peer.heard.elements.dropFirst(), rounds)
        peer.close()
        await export.end()
        await front.stop()
        await device.close()
        await running
        #expect(device.inFlight == 0 && pool.outstanding == 0)
    }

    private func heardUnlinks(_ peer: USBIPPeer, _ count: Int) async {
        func unlinks() -> Int {
            peer.heard.elements.count { if case .unlink = $0 { true } else { false } }
        }
        var known = peer.heard.count
        while unlinks() < count {
            let now = await peer.heard.wait(for: known + 1).count
            guard now > known else { return }
            known = now
        }
    }

    private func check(_ heard: ArraySlice<USBIPHeard>, _ rounds: UInt32) {
        var submitted: Set<UInt32> = []
        var unlinked: [UInt32: Int32] = [:]
        for message in heard {
            switch message {
            case .submit(let reply):
                #expect(submitted.insert(reply.seqnum).inserted)
                #expect(unlinked[reply.seqnum + 1] == nil, "RET_SUBMIT comes before RET_UNLINK")
                #expect(reply.status == 0 && reply.length == 1)
            case .unlink(let seqnum, let status):
                #expect(unlinked.updateValue(status, forKey: seqnum) == nil)
                #expect(status == (submitted.contains(seqnum - 1) ? 0 : -104))
            default: Issue.record("\(message)")
            }
        }
        #expect(unlinked.count == Int(rounds))
        #expect(Set(unlinked.values) == [0, -104])
    }
}
