// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: whose turn it is to answer")
struct USBIPTurnTests {
    @Test("T3: who completes a URB sends its answer: nobody wakes the loop")
    func direct() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold))
        try rig.receive(rig.wire.bulkIn(1, 64))
        #expect(rig.answer() == [])
        rig.backend.completeNext(data: [7, 8])
        #expect(rig.heard(rig.received()) == [.done(1, [7, 8])])
        #expect(rig.wakes.count == 0)
        // Large ones, too, whose memory is their answer.
        let data = usbipPattern(20_000)
        try rig.receive(rig.wire.bulkIn(2, data.count))
        #expect(rig.answer() == [])
        rig.backend.completeNext(data: data)
        #expect(rig.heard(rig.received()) == [.done(2, data)])
        #expect(rig.wakes.count == 0)
        await rig.finish()
    }

    @Test("T11: what a source's thread ends in one pass is one write, at its end")
    func pass() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold), isDatagram: true)
        for seqnum in 1...3 as ClosedRange<UInt32> { try rig.receive(rig.wire.bulkIn(seqnum, 64)) }
        rig.answer()
        let pass = CompletionPass()
        pass.run {
            for byte in [1, 2] as [UInt8] {
                rig.backend.completeNext(data: [byte])
                #expect(rig.received() == [])
            }
        }
        #expect(rig.heard(rig.receivedOnce()) == [.done(1, [1]), .done(2, [2])])
        #expect(rig.received() == [])
        // Nothing else can end: it isn't waited for.
        pass.run {
            rig.backend.completeNext(data: [3])
            #expect(rig.heard(rig.receivedOnce()) == [.done(3, [3])])
        }
        #expect(rig.received() == [] && rig.wakes.count == 0)
        await rig.finish()
    }

    @Test(
        "T2, T8, T11: what the loop has for an answer goes with a pass that isn't over, and so does the session's end")
    func loopDuringPass() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold))
        let over = Inbox<Int>()
        for seqnum in 1...2 as ClosedRange<UInt32> { try rig.receive(rig.wire.bulkIn(seqnum, 64)) }
        rig.answer()
        try CompletionPass().run { () throws in
            rig.backend.completeNext(data: [1])
            try rig.receive(rig.wire.unlink(3, 77))
            #expect(!rig.session.answer { _ in })
        }
        #expect(rig.heard(rig.received()) == [.done(1, [1]), .unlink(3, 0)])
        for seqnum in 4...5 as ClosedRange<UInt32> { try rig.receive(rig.wire.bulkIn(seqnum, 64)) }
        rig.answer()
        CompletionPass().run {
            rig.backend.completeNext(data: [2])
            rig.session.end { over.append(1) }
            #expect(over.count == 0)
        }
        #expect(rig.wakes.count == 1)
        #expect(rig.answer() == [] && rig.received() == [])
        #expect(over.count == 1 && rig.session.inFlight == 0)
        await rig.finish()
    }

    @Test(
        "K8: a session that is given up is over, what comes later is dropped, and nothing of it stays",
        arguments: [true, false])
    func givenUp(isDirect: Bool) async throws {
        // Cancelled ones don't end.
        let held = ScriptedBackend.Record.submit(.in(0x81, 64), .hold)
        let cancelled = ScriptedBackend.Record.cancel(.ignore)
        let backend = ScriptedBackend([held, held, held, held, cancelled, cancelled, cancelled])
        let rig = try USBIPTurnRig(backend, isDirect: isDirect)
        let over = Inbox<Int>()
        for seqnum in 1...4 as ClosedRange<UInt32> { try rig.receive(rig.wire.bulkIn(seqnum, 64)) }
        rig.answer()
        let urbs = backend.held
        CompletionPass().run {
            _ = urbs[0].complete(data: [1])
            rig.session.end { over.append(1) }
            // The loop has been woken for it, or the pass isn't over.
            _ = urbs[1].complete(data: [2])
            rig.session.abandon()
            #expect(over.count == 1 && rig.session.unfinished == 2)
        }
        _ = urbs[2].complete(data: [3])
        // The last one's memory.
        #expect(rig.session.inFlight == 1 && rig.device.pool.outstanding == 1)
        _ = urbs[3].complete(data: [4])
        #expect(rig.session.inFlight == 0 && rig.answer() == [] && rig.received() == [] && over.count == 1)
        await rig.finish()
    }

    @Test("T7: of more answers than one call takes, a full socket leaves the rest in order")
    func many() async throws {
        let data = usbipPattern(4 << 10)
        let rig = try USBIPTurnRig(ScriptedBackend(always: .complete(data: data)), sendBuffer: 64 << 10)
        let seqnums = 1...200 as ClosedRange<UInt32>
        try rig.receive(seqnums.flatMap { rig.wire.bulkIn($0, data.count) })
        let rest = rig.answer()
        let direct = rig.received()
        #expect(!direct.isEmpty && !rest.isEmpty)
        #expect(rig.heard(direct + rest) == seqnums.map { .done($0, data) })
        await rig.finish()
    }

    @Test("T1, T5: what ends while the loop reads is answered in one write at its end")
    func reading() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold))
        try rig.receive(rig.wire.bulkIn(1, 64) + rig.wire.bulkIn(2, 64))
        for (held, byte) in zip(rig.backend.held.reversed(), [2, 1] as [UInt8]) { held.complete(data: [byte]) }
        #expect(rig.received() == [])
        #expect(rig.answer() == [])
        #expect(rig.heard(rig.received()) == [.done(2, [2]), .done(1, [1])])
        #expect(rig.wakes.count == 0)
        await rig.finish()
    }

    @Test("T4: where the loop sends, it's woken once for many")
    func woken() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold), isDirect: false)
        try rig.receive(rig.wire.bulkIn(1, 64) + rig.wire.bulkIn(2, 64))
        rig.answer()
        for held in rig.backend.held { held.complete(data: [3]) }
        #expect(rig.wakes.count == 1 && rig.received() == [])
        #expect(rig.heard(rig.answer()) == [.done(1, [3]), .done(2, [3])])
        // From here on nothing is before it.
        rig.session.noteLoopIsEmpty()
        try rig.receive(rig.wire.bulkIn(3, 64))
        rig.answer()
        rig.backend.completeNext(data: [4])
        #expect(rig.heard(rig.received()) == [.done(3, [4])])
        #expect(rig.wakes.count == 1)
        await rig.finish()
    }

    @Test("T6: what a full socket doesn't take is the loop's, and what ends meanwhile comes behind it")
    func full() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold), sendBuffer: 16 << 10)
        let data = usbipPattern(1 << 20)
        try rig.receive(rig.wire.bulkIn(1, data.count) + rig.wire.bulkIn(2, 64))
        rig.answer()
        rig.backend.completeNext(data: data)
        #expect(rig.wakes.count == 1)
        rig.backend.completeNext(data: [9])
        #expect(rig.wakes.count == 1)
        let direct = rig.received()
        #expect(!direct.isEmpty && direct.count < data.count)
        // The socket has room again, but what the loop has is first.
        let rest = rig.answer()
        #expect(rig.received() == [])
        #expect(rig.heard(direct + rest) == [.done(1, data), .done(2, [9])])
        await rig.finish()
    }

    @Test("T7: what a full socket doesn't take of the loop's is sent by it")
    func loopFull() async throws {
        let data = usbipPattern(1 << 20)
        let rig = try USBIPTurnRig(ScriptedBackend(always: .complete(data: data)), sendBuffer: 16 << 10)
        try rig.receive(rig.wire.bulkIn(1, data.count) + rig.wire.bulkIn(2, data.count))
        let rest = rig.answer()
        #expect(rig.heard(rig.received() + rest) == [.done(1, data), .done(2, data)])
        #expect(rig.wakes.count == 0)
        await rig.finish()
    }

    @Test("T6: a socket that has failed is the loop's to find out")
    func failed() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold))
        try rig.receive(rig.wire.bulkIn(1, 64))
        rig.answer()
        rig.hangUp()
        rig.backend.completeNext(data: [1])
        #expect(rig.wakes.count == 1)
        #expect(rig.heard(rig.answer()) == [.done(1, [1])])
        await rig.finish()
    }

    @Test("T2, T9: what is due during a source's turn is limited: the loop waits, and is woken when that is over")
    func waiting() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold))
        try rig.receive(rig.wire.bulkIn(1, 64))
        rig.answer()
        rig.session.state.withLock { $0.turn = .source }
        let unlinks = (2..<6000).flatMap { rig.wire.unlink(UInt32($0), 99_999) }
        // SAFETY: a view of bytes, for the call.
        #expect(try rig.session.receive(unsafe unlinks.span.bytes) == 48 * USBIPLimits.due)
        #expect(rig.answer() == [])
        #expect(rig.received() == [] && rig.wakes.count == 0)
        rig.session.state.withLock { $0.turn = .nobody }
        rig.backend.completeNext(data: [5])
        #expect(rig.wakes.count == 1)
        let heard = rig.heard(rig.received() + rig.answer())
        #expect(heard.count == USBIPLimits.due + 1 && heard.first == .unlink(2, 0) && heard.last == .done(1, [5]))
        await rig.finish()
    }

    @Test("T10: a session that NIO ends from within a write, after it has read what had come, is over once")
    func reentrance() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold), isDirect: false)
        let over = Inbox<Int>()
        try rig.receive(rig.wire.bulkIn(1, 64) + rig.wire.bulkIn(2, 64) + rig.wire.unlink(3, 77))
        rig.backend.completeNext(data: [1])
        var writes = 0
        rig.session.answer { messages in
            writes += 1
            messages.removeAll()
            try? rig.receive(rig.wire.unlink(4, 78) + rig.wire.bulkIn(5, 64))
            #expect(rig.answer() == [])
            rig.session.end { over.append(1) }
        }
        #expect(writes == 1)
        // The backend has ended what was cancelled.
        #expect(over.count == 1 && rig.session.inFlight == 0)
        await rig.finish()
    }

    @Test("T2, T3, T5: URBs that end on many threads while the loop reads are answered once each, in one piece")
    func race() async throws {
        let rig = try USBIPTurnRig(ScriptedBackend(always: .hold))
        let rounds = 200
        let width = 8
        var heard: [USBIPHeard] = []
        for round in 0..<rounds {
            let first = UInt32(1 + 2 * width * round)
            for index in 0..<width { try rig.receive(rig.wire.bulkIn(first + UInt32(index), 64)) }
            #expect(rig.answer() == [])
            let held = rig.backend.held
            // Some of it is read while others complete what was read before; odd ones are refused, which the loop answers.
            await Threads.run(width + 1) { thread in
                guard thread == width else {
                    _ = held[thread].complete(data: [UInt8(thread)])
                    return
                }
                for index in 0..<width {
                    try? rig.receive(rig.wire.bulkIn(first + UInt32(width + index), 64, endpoint: 99))
                    _ = rig.answer()
                }
            }
            // T3: a source that has looked twice leaves the rest to the loop.
            #expect(rig.answer() == [])
            heard += rig.heard(rig.received())
        }
        let seqnums = heard.map { message in
            guard case .submit(let reply) = message else { return UInt32(0) }
            return reply.seqnum
        }
        #expect(Set(seqnums) == Set(1...UInt32(2 * width * rounds)) && seqnums.count == 2 * width * rounds)
        await rig.finish()
    }

    @Test("T8: a session that ends while a source answers is over once, when all has ended")
    func ending() async throws {
        for _ in 0..<300 {
            let rig = try USBIPTurnRig(ScriptedBackend(always: .hold))
            try rig.receive(rig.wire.bulkIn(1, 64) + rig.wire.bulkIn(2, 20_000))
            rig.answer()
            let held = rig.backend.held
            let over = Inbox<Int>()
            await Threads.run(3) { thread in
                guard thread == 2 else {
                    _ = held[thread].complete(data: [1])
                    return
                }
                rig.session.end { over.append(1) }
            }
            // As the loop, for all wakes that there were.
            for _ in rig.wakes.elements { #expect(rig.answer() == []) }
            #expect(over.count == 1 && rig.session.inFlight == 0)
            await rig.finish()
        }
    }
}
