// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: hostile peers")
struct RedirHostileTests {
    /// The violation that ends the connection of a peer that says this; nil where it isn't one.
    private func violation(
        _ capabilities: RedirCapabilities = .all, greeted: Bool = true, alternate: UInt8 = 2,
        _ said: (RedirWire) -> [UInt8]
    ) async throws -> String? {
        let rig = try RedirRig(ScriptedBackend(always: .hold), alternate: alternate)
        let peer = try RedirPeer(path: rig.port.socketPath, capabilities)
        peer.startReading()
        if greeted { peer.send(peer.wire.hello()) }
        peer.send(said(peer.wire))
        let heard = await peer.untilClosed()
        #expect(!heard.contains(.disconnect))
        let last = await rig.events.wait(for: greeted ? 2 : 1).last
        #expect(redirEventually { rig.device.inFlight == 0 && rig.device.pool.outstanding == 0 })
        await rig.finish(peer)
        guard case .closed(let violation)? = last else { return nil }
        return violation
    }

    private static let short = RedirWire(capabilities: .none)

    @Test(
        "R15: who says anything before hello is sent away",
        arguments: [
            short.reset(), short.getConfiguration(1), short.bulkIn(1, 8), short.bulkOut(1, [1, 2]), short.cancel(1),
            short.startInterrupt(0x85), short.reject(), short.acknowledgeDisconnect(),
        ])
    func beforeHello(bytes: [UInt8]) async throws {
        #expect(try await violation(greeted: false) { _ in bytes } == "a message before its hello")
    }

    @Test("a second hello is left aside: what was agreed upon stays")
    func secondHello() async throws {
        let rig = try RedirRig()
        let peer = try await rig.connect()
        // Without any capability, and with an id of 64 bits, as all messages have by then.
        peer.send(peer.wire.message(0, Array(repeating: 0x41, count: 68)))
        #expect(await peer.all() == [])
        #expect(rig.port.status.peer == "peer 1")
        await rig.finish(peer)
    }

    @Test(
        "R15: a message of more than 16 MiB ends it before its body comes",
        arguments: [16 << 20 | 1, 128 << 20, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] as [UInt32])
    func tooLong(length: UInt32) async throws {
        let violation = try await violation { $0.message(101, id: 1, length: length) }
        #expect(violation == "a message of more than 16777216 bytes")
        // Where the hello should be.
        let first = try await self.violation(greeted: false) { _ in
            Self.short.message(0, length: length)
        }
        #expect(first == "a message of more than 16777216 bytes")
    }

    @Test("a message of 16 MiB is taken")
    func longest() async throws {
        let count = RedirLimits.message - 10
        let rig = try RedirRig(ScriptedBackend([.submit(.init(length: count), .complete())]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkOut(1, Array(repeating: 3, count: count)))
        #expect(await peer.nextPacket()?.length == count)
        await rig.finish(peer)
    }

    @Test(
        "R15: types that a guest's side doesn't say end it",
        arguments: [1, 2, 4, 5, 8, 11, 14, 17, 20, 27, 28, 99, 104, 105, 0xffff_ffff] as [UInt32])
    func types(type: UInt32) async throws {
        for count in [0, 1, 64] {
            let violation = try await violation { $0.message(type, Array(repeating: 0, count: count)) }
            #expect(violation != nil)
        }
    }

    @Test(
        "a length that doesn't fit the type ends it",
        arguments: [3, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19, 21, 22, 24, 25, 26] as [UInt32])
    func lengths(type: UInt32) async throws {
        #expect(try await violation { $0.message(type, Array(repeating: 0x85, count: 40)) } != nil)
    }

    @Test("data that aren't as many as the header says end it", arguments: RedirTransferTests.forms)
    func dataLength(_ form: RedirCapabilities) async throws {
        let setup = SetupPacket(bmRequestType: 0x40, bRequest: 1, wValue: 0, wIndex: 0, wLength: 8)
        let said: [(RedirWire) -> [UInt8]] = [
            { $0.control(1, setup, [1, 2, 3]) },
            { $0.control(1, SetupPacket(bmRequestType: 0xc0, bRequest: 1, wValue: 0, wIndex: 0, wLength: 8), [1]) },
            // A header of bulk OUT that names one byte more, or 64 KiB more, than come.
            { wire in
                let bytes = wire.bulkOut(1, [1, 2, 3])
                return bytes.replacing([3, 0, 0], with: [4, 0, 0], maxReplacements: 1)
            },
            { wire in wire.message(103, id: 1, [0x06, 0, 2, 0, 1]) },
            { wire in wire.message(102, id: 1, [0x04, 0, 0xff, 0xff]) },
        ]
        for say in said { #expect(try await violation(form, say) != nil) }
    }

    @Test("packets of the wrong direction end it")
    func direction() async throws {
        // Isochronous and interrupt IN packets are the host's to send.
        #expect(try await violation { $0.message(102, id: 1, [0x83, 0, 0, 0]) } != nil)
        #expect(try await violation { $0.message(103, id: 1, [0x85, 0, 8, 0]) } != nil)
        #expect(try await violation { $0.startBulk(0x02, bytes: 64, transfers: 1) } != nil)
        #expect(try await violation { $0.message(101, id: 1, $0.bulkIn(1, 1).dropFirst(16) + [1]) } != nil)
    }

    @Test("a connection that ends anywhere in a message just ends")
    func truncated() async throws {
        let hello = RedirWire(capabilities: .all).hello()
        let said = hello + RedirWire(capabilities: .all).bulkOut(1, [1, 2, 3])
        for count in stride(from: 0, to: said.count, by: 3) {
            let rig = try RedirRig()
            let peer = try RedirPeer(path: rig.port.socketPath)
            peer.send(Array(said.prefix(count)))
            peer.close()
            let isGreeted = count >= hello.count
            let events = await rig.events.wait(for: isGreeted ? 2 : 1)
            #expect(events.last == .closed(violation: nil), "after \(count) bytes")
            #expect(events.count == (isGreeted ? 2 : 1), "after \(count) bytes")
            await rig.finish()
        }
    }

    @Test("messages that come byte by byte are understood")
    func byteByByte() async throws {
        let rig = try RedirRig(ScriptedBackend([.submit(.out(0x02, redirPattern(40)), .complete())]))
        let peer = try RedirPeer(path: rig.port.socketPath)
        peer.startReading()
        for byte in peer.wire.hello() + peer.wire.bulkOut(1, redirPattern(40)) + peer.wire.getConfiguration(2) {
            peer.send([byte])
        }
        #expect(
            await peer.next(6).suffix(2) == [
                .packet(RedirHeard.Packet(kind: .bulk, id: 1, endpoint: 0x02, length: 40)),
                .configuration(id: 2, .success, value: 1),
            ])
        await rig.finish(peer)
    }

    @Test("what is said before a violation is carried out")
    func beforeViolation() async throws {
        let rig = try RedirRig(ScriptedBackend([.submit(.out(0x02, [1]), .complete())]))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkOut(1, [1]) + peer.wire.message(99))
        #expect(await peer.untilClosed().count <= 1)
        #expect(rig.backend.calls.count == 1)
        await rig.finish(peer)
    }

    // MARK: - Filter

    @Test(
        "R16: a guest's filter decides, as QEMU's does",
        arguments: [
            // Class, vendor, product, version, whether it's allowed; the first rule that fits.
            ("-1,-1,-1,-1,1", true), ("-1,-1,-1,-1,0", false), ("-1,0x0525,-1,-1,0|-1,-1,-1,-1,1", false),
            ("0xff,-1,-1,-1,0|-1,-1,-1,-1,1", false), ("0x08,-1,-1,-1,0|-1,-1,-1,-1,1", true),
            ("-1,0x0525,0xa4a0,-1,1|-1,-1,-1,-1,0", true), ("0x03,-1,-1,-1,1", false), ("", false),
        ])
    func filter(rules: String, isAdmitted: Bool) async throws {
        let rig = try RedirRig()
        let peer = try await rig.connect()
        peer.send(peer.wire.filter(rules))
        if isAdmitted {
            #expect(await peer.all() == [])
            #expect(rig.port.status.state == .connected)
        } else {
            #expect(await peer.untilClosed() == [])
            guard case .rejected? = await rig.events.wait(for: 2).last else {
                Issue.record("not rejected: \(rig.events.elements)")
                return await rig.finish(peer)
            }
            #expect(rig.port.isOver)
        }
        await rig.finish(peer)
    }

    @Test(
        "rules that can't be understood are left aside, as libusbredirparser does",
        arguments: ["-1,-1", "x,y,z,a,b", "-1,-1,-1,-1,1|", "1,2,3,4,5,6"])
    func badFilter(rules: String) async throws {
        let rig = try RedirRig()
        let peer = try await rig.connect()
        peer.send(peer.wire.filter(rules))
        #expect(await peer.all() == [])
        #expect(rig.port.status.state == .connected)
        await rig.finish(peer)
    }

    @Test("R16: a guest whose controller doesn't take the device says so: nothing follows")
    func reject() async throws {
        let rig = try RedirRig(ScriptedBackend(always: .hold))
        let peer = try await rig.connect()
        peer.send(peer.wire.bulkIn(1, 8))
        await rig.backend.calls.wait(for: 1)
        peer.send(peer.wire.reject() + peer.wire.bulkIn(2, 8))
        #expect(await peer.untilClosed() == [])
        guard case .rejected? = await rig.events.wait(for: 2).last else {
            Issue.record("\(rig.events.elements)")
            return await rig.finish(peer)
        }
        #expect(rig.device.inFlight == 0)
        await rig.finish(peer)
        #expect(rig.events.count == 2)
    }
}
