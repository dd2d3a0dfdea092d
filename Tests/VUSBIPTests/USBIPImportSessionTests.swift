// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

/// A session without a connection: what races elsewhere is in order here.
@Suite("USB/IP imports: a session, step by step")
struct USBIPImportSessionTests {
    /// The session as a device's backend.
    private final class Backend: USBBackend {
        let session: USBIPImportSession
        init(_ session: USBIPImportSession) { self.session = session }
        func submit(_ urb: consuming URB) { session.submit(urb) }
        func cancel(_ token: URBToken) { session.cancel(token) }
        func reset() async throws(USBError) {}
        func close() async {}
    }

    private struct Rig {
        let session: USBIPImportSession
        let device: VirtualDevice
        let handler: RecordingHandler
        let input = EndpointAddress(rawValue: 0x81)

        init(handler: RecordingHandler = RecordingHandler()) throws {
            self.handler = handler
            let bytes = USBIPFakeServer.record()
            // SAFETY: a view of bytes, for the call.
            let record = try USBIPImportRecord(unsafe bytes.span.bytes)
            session = USBIPImportSession(record, ByteBufferAllocator()) {
            } cut: { _ in
            }
            session.descriptors = DescriptorBytes.fullZero
            session.state.withLock {
                $0.settings = ActiveSettings(DescriptorBytes.fullZero, configurationValue: 1)
            }
            device = VirtualDevice(
                backend: Backend(session), descriptors: DescriptorBytes.fullZero, speed: .high, configurationValue: 1,
                pool: BufferPool())
        }

        func submit(_ count: Int = 64) -> URBToken {
            device.submit(TestURB.in(input, count: count, pool: device.pool, handler: handler))
        }

        func setInterface(_ alternate: UInt8) -> URBToken {
            device.submit(
                TestURB.control(
                    .setInterface(InterfaceNumber(rawValue: 0), alternate: alternate), pool: device.pool,
                    handler: handler))
        }

        /// Commands that are sent: number, seqnum, and what an UNLINK means.
        func sent() -> [[UInt32]] {
            _ = session.turn()
            var messages: [ByteBuffer] = []
            session.outgoing.give(to: &messages)
            return messages.flatMap { message in
                stride(from: 0, to: message.readableBytes, by: 48).map { offset in
                    [0, 4, 20].compactMap { message.getInteger(at: message.readerIndex + offset + $0) }
                }
            }
        }

        func receive(_ bytes: [UInt8]) throws {
            // SAFETY: a view of bytes, for the call.
            try session.receive(unsafe bytes.span.bytes)
        }

        func finish() {
            session.end()
            #expect(session.inUse == 0 && device.inFlight == 0 && device.pool.outstanding == 0)
        }
    }

    private static let directionIn: UInt32 = 0x200

    private final class Batch: CompletionPassHandler, Sendable {
        let ended = Inbox<Bool>()
        func passEnded() { ended.append(true) }
    }

    @Test(
        "what one read brings ends in one pass, whether it's well-formed or not, and so does what the connection's end ends"
    )
    func passes() throws {
        let batch = Batch()
        let handler = RecordingHandler { _ in
            #expect(CompletionPass.tellAtEnd(batch))
            #expect(batch.ended.count % 2 == 0)
        }
        let rig = try Rig(handler: handler)
        for _ in 0..<6 { _ = rig.submit() }
        #expect(rig.sent().count == 6)
        try rig.receive(USBIPFakeServer.done(1, [1]) + USBIPFakeServer.done(2, [2]))
        #expect(batch.ended.count == 2)
        // The seqnum of none.
        #expect(throws: USBIPServerFault.self) {
            try rig.receive([3, 4, 99].flatMap { USBIPFakeServer.done($0, [3]) })
        }
        #expect(batch.ended.count == 4)
        rig.finish()
        #expect(batch.ended.count == 6 && handler.completions.count == 6)
    }

    @Test("C1: cancelled before it's sent: the server hears nothing")
    func beforeSending() throws {
        let rig = try Rig()
        rig.device.cancel(rig.submit())
        #expect(rig.handler.completions.map(\.status) == [.cancelled])
        #expect(rig.sent().isEmpty && rig.session.inUse == 0)
        rig.finish()
    }

    @Test("C6: cancelled while its answer is coming in: no UNLINK")
    func whileReceiving() throws {
        let rig = try Rig()
        let token = rig.submit()
        #expect(rig.sent() == [[1, 1, Self.directionIn]])
        let answer = USBIPFakeServer.done(1, [1, 2, 3, 4])
        try rig.receive(Array(answer.prefix(50)))
        #expect(rig.session.oldestCancel == nil)
        rig.device.cancel(token)
        // C9.
        #expect(rig.session.oldestCancel != nil)
        #expect(rig.sent().isEmpty)
        try rig.receive(Array(answer.dropFirst(50)))
        #expect(rig.session.oldestCancel == nil)
        #expect(rig.handler.completions.map(\.bytes) == [[1, 2, 3, 4]])
        rig.finish()
    }

    @Test("C8: the answer comes before the UNLINK is sent: there is none, also where the slot is another URB's by then")
    func beforeUnlink() throws {
        let rig = try Rig()
        let token = rig.submit()
        _ = rig.sent()
        rig.device.cancel(token)
        try rig.receive(USBIPFakeServer.done(1, [1]))
        #expect(rig.handler.completions.map(\.bytes) == [[1]])
        _ = rig.submit()
        #expect(rig.sent() == [[1, 2, Self.directionIn]])
        rig.finish()
        #expect(rig.handler.completions.map(\.status) == [.success, .noDevice])
    }

    @Test("C9: the time begins with the cancel, and ends with the answer to the UNLINK")
    func time() throws {
        let rig = try Rig()
        let token = rig.submit()
        _ = rig.sent()
        rig.device.cancel(token)
        let since = try #require(rig.session.oldestCancel)
        #expect(rig.sent() == [[2, 2, 1]])
        rig.device.cancel(token)
        #expect(rig.session.oldestCancel == since)
        try rig.receive(USBIPFakeServer.done(1, [1]))
        #expect(rig.session.oldestCancel == since)
        try rig.receive(USBIPFakeServer.unlinked(2, 0))
        #expect(rig.session.oldestCancel == nil)
        rig.finish()
    }

    @Test("C3: a slot is another's only when the answer to the UNLINK is there")
    func unlinkAnswered() throws {
        let rig = try Rig()
        let token = rig.submit()
        _ = rig.sent()
        rig.device.cancel(token)
        #expect(rig.sent() == [[2, 2, 1]])
        try rig.receive(USBIPFakeServer.done(1, [1]))
        #expect(rig.handler.completions.map(\.status) == [.success] && rig.session.inUse == 1)
        try rig.receive(USBIPFakeServer.unlinked(2, 0))
        #expect(rig.session.inUse == 0)
        rig.finish()
    }

    @Test("S5: SET_INTERFACE waits for what it disables, which ends with -108, as what comes meanwhile")
    func change() throws {
        let rig = try Rig()
        _ = rig.submit()
        _ = rig.sent()
        _ = rig.setInterface(1)
        #expect(rig.sent() == [[2, 2, 1]])
        _ = rig.submit()
        #expect(rig.handler.completions.map(\.status) == [.shutdown])
        try rig.receive(USBIPFakeServer.unlinked(2, -104))
        #expect(rig.handler.completions.map(\.status) == [.shutdown, .shutdown])
        #expect(rig.sent() == [[1, 3, 0]])
        try rig.receive(USBIPFakeServer.done(3))
        #expect(rig.handler.completions.map(\.status) == [.shutdown, .shutdown, .success])
        _ = rig.submit()
        #expect(rig.sent() == [[1, 4, Self.directionIn]])
        rig.finish()
    }

    @Test("S5: a change that is cancelled while it waits lets the endpoints go on")
    func cancelledChange() throws {
        let rig = try Rig()
        _ = rig.submit()
        _ = rig.sent()
        let change = rig.setInterface(1)
        _ = rig.sent()
        rig.device.cancel(change)
        #expect(rig.handler.completions.map(\.status) == [.cancelled])
        try rig.receive(USBIPFakeServer.unlinked(2, -104))
        _ = rig.sent()
        _ = rig.submit()
        #expect(rig.sent() == [[1, 3, Self.directionIn]])
        rig.finish()
    }

    @Test("S8: the 1,025th URB, and what is beyond 16 MiB, end with -12")
    func limits() throws {
        let rig = try Rig()
        for _ in 0..<1025 { _ = rig.submit(1) }
        #expect(rig.handler.completions.map(\.status) == [.noMemory])
        rig.finish()
        #expect(rig.handler.completions.count == 1025)
    }

    @Test("isochronous packets that lie in another order than they were sent")
    func descending() throws {
        let rig = try Rig()
        var urb = TestURB.isochronous(
            EndpointAddress(rawValue: 0x83), lengths: [4, 4], pool: rig.device.pool, handler: rig.handler)
        urb.packets?[0].offset = 4
        urb.packets?[1].offset = 0
        rig.device.submit(urb)
        _ = rig.session.turn()
        try rig.receive(
            USBIPFakeServer.done(1, [1, 1, 1, 1, 2, 2, 2, 2], packetCount: 2) + USBIPFakeServer.packet(0, 0, 4)
                + USBIPFakeServer.packet(0, 0, 4))
        #expect(rig.handler.completions.map(\.bytes) == [[2, 2, 2, 2, 1, 1, 1, 1]])
        rig.finish()
    }
}

extension USBIPImportSessionTests {
    @Test("bytes of any kind: all ends once", arguments: 0..<4)
    func anything(seed: Int) {
        var generator = Generator(state: UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 &+ 1)
        for _ in 0..<10 {
            let input = (0..<400).map { _ in UInt8.random(in: 0...255, using: &generator) }
            USBIPFuzzing.runClient(input, descriptors: DescriptorBytes.fullZero)
        }
    }

    /// The same every time (xorshift).
    private struct Generator: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
    }
}
