// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

/// What a server may not do, and what becomes of a cancelled URB: the rows V and C of Imports.md.
@Suite("USB/IP imports: servers that err")
struct USBIPImportHostileTests {
    private typealias Server = USBIPFakeServer

    /// A device imported from a fake server, and open.
    private struct Rig {
        let server: USBIPFakeServer
        let importer: USBIPImporter
        let device: VirtualDevice
        let handler = RecordingHandler()

        init(_ patience: USBIPImportPatience = USBIPImporter.quick) async throws {
            server = try USBIPFakeServer()
            importer = try USBIPImporter(patience)
            _ = try importer.source.add(try #require(server.remote), name: nil)
            device = try await importer.open(try await importer.arrived())
        }

        /// What the server hears of a bulk IN transfer.
        func bulkIn(_ count: Int = 512) async throws -> (token: URBToken, command: USBIPFakeServer.Command) {
            let before = server.heard.count
            let token = device.submit(
                TestURB.in(EndpointAddress(rawValue: 0x81), count: count, pool: device.pool, handler: handler))
            let heard = await server.heard.wait(for: before + 1)
            return (token, try #require(heard.last))
        }

        func isochronousIn() async throws -> USBIPFakeServer.Command {
            let before = server.heard.count
            device.submit(
                TestURB.isochronous(
                    EndpointAddress(rawValue: 0x83), lengths: [100, 200], pool: device.pool, handler: handler))
            return try #require(await server.heard.wait(for: before + 1).last)
        }

        /// The URB has ended with the connection, once, and the device has left, for this reason.
        func expectCut(_ reason: String, _ location: SourceLocation = #_sourceLocation) async throws {
            #expect(await handler.wait(for: 1).map(\.status) == [.noDevice], sourceLocation: location)
            try await importer.left()
            await device.close()
            #expect(device.inFlight == 0 && device.pool.outstanding == 0, sourceLocation: location)
            let told = await importer.reason()
            #expect(told.contains(reason), "\(told)", sourceLocation: location)
            await importer.source.stop()
            server.stop()
            #expect(handler.completions.count == 1, sourceLocation: location)
        }

        func finish() async {
            await device.close()
            #expect(device.inFlight == 0 && device.pool.outstanding == 0)
            await importer.source.stop()
            server.stop()
        }
    }

    // MARK: - After the import

    @Test("V1, V2, V5: answers that can't be placed", arguments: 0..<6)
    func answers(row: Int) async throws {
        let rig = try await Rig(USBIPImporter.once)
        let seqnum = try await rig.bulkIn().command.seqnum
        let (bytes, reason): ([UInt8], String) =
            [
                (Server.done(seqnum &+ 100), "which nobody has asked"),
                (Server.unlinked(seqnum, 0), "which nobody has asked"),
                (Server.done(seqnum, Array(repeating: 0, count: 513)), "513 bytes where 512"),
                (Server.done(seqnum, length: 0xffff_ffff), "bytes where 512"),
                (Server.done(seqnum, length: 0x8000_0000), "bytes where 512"),
                (Server.done(seqnum, command: 9), "of the kind 9"),
            ][row]
        rig.server.send(bytes)
        try await rig.expectCut(reason)
    }

    @Test("V3, V4: isochronous packets that aren't those that were asked for", arguments: 0..<5)
    func packets(row: Int) async throws {
        let rig = try await Rig(USBIPImporter.once)
        let seqnum = try await rig.isochronousIn().seqnum
        let data = Array(repeating: UInt8(1), count: 300)
        let two = Server.done(seqnum, data, packetCount: 2)
        let (bytes, reason): ([UInt8], String) =
            [
                (Server.done(seqnum, data, packetCount: 3), "3 packets where 2"),
                (Server.done(seqnum, data, packetCount: 0xffff_ffff), "packets where 2"),
                (Server.done(seqnum, [], packetCount: 0), "0 packets where 2"),
                (two + Server.packet(0, 100, 101) + Server.packet(100, 200, 199), "a packet of 101 bytes where 100"),
                (
                    two + Server.packet(0, 100, 99) + Server.packet(100, 200, 200),
                    "packets of 299 bytes in a transfer of 300"
                ),
            ][row]
        rig.server.send(bytes)
        try await rig.expectCut(reason)
    }

    @Test("V4, S4: offsets and lengths that a server says aren't looked at; packed data are put where the packets lie")
    func offsets() async throws {
        let rig = try await Rig()
        let command = try await rig.isochronousIn()
        #expect(command.packetCount == 2 && command.interval == 1 && command.flags == 0x202)
        let data = Array(repeating: UInt8(1), count: 50) + Array(repeating: UInt8(2), count: 60)
        rig.server.send(
            Server.done(command.seqnum, data, packetCount: 2) + Server.packet(0xffff_ff00, 1 << 30, 50)
                + Server.packet(7, 0, 60, -71))
        let ended = try #require(await rig.handler.wait(for: 1).first)
        #expect(ended.status == .success && ended.packets.map(\.actualLength) == [50, 60])
        #expect(ended.packets.map(\.offset) == [0, 100] && ended.packets[1].status == .protocolError)
        #expect(Array(ended.bytes.prefix(50)) == Array(data.prefix(50)))
        #expect(Array(ended.bytes[100..<110]) == Array(repeating: 2, count: 10))
        await rig.finish()
    }

    @Test("V3: a transfer that has failed may come without packets")
    func failedPackets() async throws {
        let rig = try await Rig()
        rig.server.send(Server.done(try await rig.isochronousIn().seqnum, status: -71))
        #expect(await rig.handler.wait(for: 1).map(\.status) == [.protocolError])
        await rig.finish()
    }

    @Test(
        "V13: statuses that are none",
        arguments: [(-32, -32), (-121, -121), (-2, -108), (7, -5), (-9999, -5), (Int32.min, -5)] as [(Int32, Int32)])
    func statuses(said: Int32, told: Int32) async throws {
        let rig = try await Rig()
        rig.server.send(Server.done(try await rig.bulkIn().command.seqnum, status: said))
        #expect(await rig.handler.wait(for: 1).map(\.status.rawValue) == [told])
        await rig.finish()
    }

    @Test("V9: one byte at a time; a short transfer")
    func pieces() async throws {
        let rig = try await Rig()
        rig.server.change { $0.piece = 1 }
        rig.server.send(Server.done(try await rig.bulkIn().command.seqnum, [1, 2, 3]))
        #expect(await rig.handler.wait(for: 1).map(\.bytes) == [[1, 2, 3]])
        await rig.finish()
    }

    @Test("V14: a server that doesn't read, while bytes wait")
    func deaf() async throws {
        var patience = USBIPImporter.once
        patience.reading = .milliseconds(50)
        patience.look = .milliseconds(20)
        let rig = try await Rig(patience)
        rig.server.change { $0.isDeaf = true }
        // More than a socket's buffers hold.
        rig.device.submit(
            TestURB.out(
                EndpointAddress(rawValue: 2), Array(repeating: 1, count: 1 << 20), pool: rig.device.pool,
                handler: rig.handler))
        try await rig.expectCut("doesn't read")
    }

    @Test("S1, S2: flags, and what a SUBMIT looks like")
    func submit() async throws {
        let rig = try await Rig()
        var urb = TestURB.out(EndpointAddress(rawValue: 2), [1, 2, 3], pool: rig.device.pool, handler: rig.handler)
        urb.flags = .zeroPacket
        rig.device.submit(urb)
        let out = try #require(await rig.server.heard.wait(for: 1).last)
        #expect(out.flags == 0x40 && !out.isIn && out.data == [1, 2, 3] && out.packetCount == 0 && out.interval == 0)
        rig.server.send(Server.done(out.seqnum, length: 3))
        #expect(await rig.handler.wait(for: 1).map(\.actualLength) == [3])
        var short = TestURB.in(
            EndpointAddress(rawValue: 0x85), count: 64, pool: rig.device.pool, handler: rig.handler)
        short.flags = .shortNotOK
        rig.device.submit(short)
        let interrupt = try #require(await rig.server.heard.wait(for: 2).last)
        // bInterval 4 at high speed: every 8 microframes.
        #expect(interrupt.flags == 0x201 && interrupt.isIn && interrupt.interval == 8)
        rig.server.send(Server.done(interrupt.seqnum, [1], status: -121))
        #expect(await rig.handler.wait(for: 2).last?.status == .shortNotOK)
        await rig.finish()
    }

    // MARK: - Cancel

    @Test("C2, C4, C5: RET_UNLINK alone ends a URB, once", arguments: [(-104, -104), (0, -104), (-32, -32)])
    func unlinked(said: Int32, told: Int32) async throws {
        let rig = try await Rig()
        let (token, command) = try await rig.bulkIn()
        rig.device.cancel(token)
        // C7.
        rig.device.cancel(token)
        let unlink = try #require(await rig.server.heard.wait(for: 2).last)
        #expect(unlink.command == 2 && unlink.length == command.seqnum)
        rig.server.send(Server.unlinked(unlink.seqnum, said))
        #expect(await rig.handler.wait(for: 1).map(\.status.rawValue) == [told])
        // The next in the slot is another.
        let next = try await rig.bulkIn().command
        rig.server.send(Server.done(next.seqnum, [5]))
        #expect(await rig.handler.wait(for: 2).last?.bytes == [5])
        #expect(rig.server.heard.count == 3)
        await rig.finish()
    }

    @Test("C3: RET_SUBMIT, then RET_UNLINK 0")
    func tooLate() async throws {
        let rig = try await Rig()
        let (token, command) = try await rig.bulkIn()
        rig.device.cancel(token)
        let unlink = try #require(await rig.server.heard.wait(for: 2).last)
        rig.server.send(Server.done(command.seqnum, [1, 2]) + Server.unlinked(unlink.seqnum, 0))
        #expect(await rig.handler.wait(for: 1).map(\.bytes) == [[1, 2]])
        let next = try await rig.bulkIn().command
        rig.server.send(Server.done(next.seqnum, [5]))
        #expect(await rig.handler.wait(for: 2).last?.bytes == [5])
        await rig.finish()
    }

    @Test("C9: an UNLINK that nobody answers ends the connection")
    func unansweredUnlink() async throws {
        var patience = USBIPImporter.once
        patience.unlink = .milliseconds(50)
        patience.look = .milliseconds(20)
        let rig = try await Rig(patience)
        rig.device.cancel(try await rig.bulkIn().token)
        try await rig.expectCut("doesn't end a transfer")
    }

    @Test("C6, C9: half an answer ends no close and no reset: the connection is cut", arguments: [false, true])
    func halfAnswer(isReset: Bool) async throws {
        var patience = USBIPImporter.once
        patience.ending = .milliseconds(50)
        patience.look = .milliseconds(20)
        let rig = try await Rig(patience)
        let first = try await rig.bulkIn().command.seqnum
        let second = try await rig.bulkIn().command.seqnum
        // In one write: when the first has ended, the second is coming in.
        rig.server.send(Server.done(first, [1]) + Server.done(second, [1, 2, 3, 4]).prefix(50))
        await rig.handler.wait(for: 1)
        if isReset {
            await #expect(throws: USBError.self) { try await rig.device.reset() }
        } else {
            await rig.device.close()
        }
        #expect(await rig.handler.wait(for: 2).map(\.status) == [.success, .noDevice])
        try await rig.importer.left()
        #expect(await rig.importer.reason().contains("doesn't end a transfer"))
        await rig.finish()
    }

    @Test("C10, L3: the connection is lost with URBs and an UNLINK in flight")
    func lost() async throws {
        let rig = try await Rig()
        let token = try await rig.bulkIn().token
        for _ in 0..<99 { _ = try await rig.bulkIn() }
        rig.device.cancel(token)
        await rig.server.heard.wait(for: 101)
        rig.server.hangUp()
        #expect(await rig.handler.wait(for: 100).map(\.status) == Array(repeating: .noDevice, count: 100))
        try await rig.importer.left()
        _ = try await rig.importer.arrived()
        await rig.finish()
    }

    @Test("L6: a server that doesn't know resets: the connection is made anew, and the device stays")
    func renewed() async throws {
        let rig = try await Rig()
        rig.server.change {
            $0.answerControl = { $0.setup[0] == 0x23 ? USBIPFakeServer.done($0.seqnum, status: -32) : nil }
        }
        try await rig.device.reset()
        #expect(rig.importer.events.count == 1)
        let command = try await rig.bulkIn().command
        rig.server.send(Server.done(command.seqnum, [5]))
        #expect(await rig.handler.wait(for: 1).map(\.bytes) == [[5]])
        await rig.finish()
    }

    @Test("L6: a server that drops the new connection while it resets is asked again, and the device stays")
    func renewedLater() async throws {
        let rig = try await Rig(USBIPImporter.once)
        rig.server.change { behaviour in
            behaviour.answerControl = { $0.setup[0] == 0x23 ? USBIPFakeServer.done($0.seqnum, status: -32) : nil }
            behaviour.drops = 3
        }
        try await rig.device.reset()
        rig.server.change { #expect($0.drops == 0) }
        #expect(rig.importer.events.count == 1)
        let command = try await rig.bulkIn().command
        rig.server.send(Server.done(command.seqnum, [5]))
        #expect(await rig.handler.wait(for: 1).map(\.bytes) == [[5]])
        await rig.finish()
    }

    @Test("V12: another device after a reset")
    func otherAfterReset() async throws {
        let rig = try await Rig()
        rig.server.change { behaviour in
            behaviour.answerControl = { $0.setup[0] == 0x23 ? USBIPFakeServer.done($0.seqnum, status: -32) : nil }
            // bcdDevice.
            behaviour.descriptors[12] ^= 1
        }
        await #expect(throws: USBError.self) { try await rig.device.reset() }
        try await rig.importer.left()
        #expect(try await rig.importer.arrived().descriptors.device.bcdDevice & 1 == 1)
        await rig.finish()
    }

    // MARK: - Before the import

    private func failure(
        _ patience: USBIPImportPatience = USBIPImporter.quick, _ change: (inout USBIPFakeServer.Behaviour) -> Void
    ) async throws -> (error: USBError?, events: [DeviceEvent]) {
        var behaviour = USBIPFakeServer.Behaviour()
        change(&behaviour)
        let server = try USBIPFakeServer(behaviour)
        let importer = try USBIPImporter(patience)
        let id = try importer.source.add(try #require(server.remote), name: nil)
        var found: USBError?
        do {
            try await importer.source.firstTry(of: id)
        } catch {
            found = error
        }
        guard case .imported? = importer.source.imports().first?.state else {
            await importer.source.stop()
            server.stop()
            return (found, importer.events.elements)
        }
        Issue.record("it was imported")
        return (found, [])
    }

    @Test("V6: what can't be an answer to an import", arguments: 0..<9)
    func imports(row: Int) async throws {
        let (bytes, text): ([UInt8], String) =
            [
                (Server.imported(version: 0x0100), "version 256"),
                (Server.imported(code: 5), "another operation"),
                (Server.imported(status: 1), "doesn't say why"),
                (Server.imported(status: 2), "another has it"),
                (Server.imported(status: 4), "doesn't have it"),
                (Server.imported(status: 77), "status 77"),
                (Server.imported(device: 1 << 16), "which can't be"),
                (Server.imported(speed: 4), "speed 4"),
                (Server.imported(busID: USBIPWire.padded("1-2")), "another device than asked for"),
            ][row]
        let (error, events) = try await failure { $0.answerImport = { _ in bytes } }
        #expect(error?.message.contains(text) == true, "\(error?.message ?? "no error")")
        #expect(events.isEmpty)
    }

    @Test("V8: a server that never answers, and one whose device doesn't")
    func silence() async throws {
        var patience = USBIPImporter.quick
        patience.operation = .milliseconds(100)
        patience.control = .milliseconds(100)
        let silent = try await failure(patience) { $0.answerImport = { _ in nil } }
        #expect(silent.error?.code == .timedOut && silent.events.isEmpty)
        let deaf = try await failure(patience) { $0.answerControl = { _ in [] } }
        #expect(deaf.error?.code == .timedOut && deaf.events.isEmpty)
    }

    @Test("V10: descriptors that contradict themselves, or the server", arguments: 0..<4)
    func lies(row: Int) async throws {
        let (error, events) = try await failure { behaviour in
            switch row {
            // wTotalLength says more than there is.
            case 0: behaviour.descriptors[20] = 0xff
            // bLength 0 of an interface.
            case 1: behaviour.descriptors[27] = 0
            // Eight configurations, of which one is there.
            case 2: behaviour.descriptors[17] = 8
            // idVendor: another than in the record.
            default: behaviour.descriptors[8] ^= 1
            }
        }
        #expect(error?.code == .invalid)
        guard case .refused? = events.first else {
            Issue.record("it wasn't refused")
            return
        }
    }

    @Test("V11: another device under the same busid, after a loss")
    func otherDevice() async throws {
        let server = try USBIPFakeServer()
        let importer = try USBIPImporter()
        _ = try importer.source.add(try #require(server.remote), name: nil)
        let first = try await importer.arrived()
        server.change { $0.descriptors[12] ^= 1 }
        server.hangUp()
        try await importer.left()
        let second = try await importer.arrived()
        #expect(first.id == second.id && first.descriptors != second.descriptors)
        await #expect(throws: USBError.self) { _ = try await importer.open(first) }
        await importer.source.stop()
        server.stop()
    }

    @Test("V16: entries that can't be imported are left out of the list, and why is told")
    func garbledEntries() async throws {
        let records = [
            Server.record(speed: 99), Server.record(busID: USBIPWire.padded("../../sys")),
            Server.record(busID: USBIPWire.padded("")), Server.record(device: 0x1_0000), Server.record(),
        ]
        let header = USBIPWire.big(UInt16(0x0111)) + USBIPWire.big(UInt16(5)) + [0, 0, 0, 0, 0, 0, 0, 5]
        // Each has one interface, a keyboard's.
        let bytes = header + records.flatMap { $0 + [3, 1, 1, 0] }
        var behaviour = USBIPFakeServer.Behaviour()
        behaviour.answerImport = { _ in bytes }
        let server = try USBIPFakeServer(behaviour)
        let list = try await USBIPSource.offers(of: .unix(path: server.path), within: .seconds(60))
        #expect(list.offers.map(\.busID) == ["1-1"])
        #expect(list.offers.map(\.interfaces) == [[USBIPInterfaceClass(3, 1, 1)]])
        #expect(
            list.leftOut == [
                USBIPOfferList.LeftOut(busID: "1-1", reason: "it says speed 99, which can't be"),
                USBIPOfferList.LeftOut(busID: "../../sys", reason: "its busid isn't one that can be asked for"),
                USBIPOfferList.LeftOut(busID: "", reason: "it has no busid"),
                USBIPOfferList.LeftOut(busID: "1-1", reason: "it says bus 1, device 65536, which can't be"),
            ])
        server.stop()
    }

    @Test("V7: lists that are too long, don't end, or lie", arguments: 0..<3)
    func lists(row: Int) async throws {
        let header = USBIPWire.big(UInt16(0x0111)) + USBIPWire.big(UInt16(5)) + [0, 0, 0, 0]
        let bytes: [UInt8] =
            [
                header + [0xff, 0xff, 0xff, 0xff], header + [0, 0, 4, 1],
                header + [0, 0, 0, 2] + Server.record() + [0, 0, 0, 0],
            ][row]
        var behaviour = USBIPFakeServer.Behaviour()
        behaviour.answerImport = { _ in bytes }
        let server = try USBIPFakeServer(behaviour)
        let isEndless = row == 2
        let error = await #expect(throws: USBError.self) {
            try await USBIPSource.offers(
                of: .unix(path: server.path), within: isEndless ? .milliseconds(300) : .seconds(60))
        }
        #expect(error?.code == (isEndless ? .timedOut : .invalid))
        server.stop()
    }

    @Test("nobody listens")
    func nobody() async throws {
        let importer = try USBIPImporter()
        let id = try importer.source.add(
            try #require(USBIPRemote(server: .unix(path: "/tmp/vusb-nowhere"), busID: "1-1")), name: nil)
        await #expect(throws: USBError.self) { try await importer.source.firstTry(of: id) }
        #expect(await usbipAwait { (importer.source.imports().first?.attempts ?? 0) > 1 })
        await importer.source.stop()
    }
}
