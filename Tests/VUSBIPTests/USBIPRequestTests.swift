// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: requests")
struct USBIPRequestTests {
    private func reply(_ rig: USBIPRig, _ said: [UInt8], pieces: Int? = nil) async throws -> [UInt8] {
        let peer = try USBIPPeer(rig.target)
        peer.send(said, pieces: pieces ?? said.count)
        return await peer.bytesUntilClosed()
    }

    /// Path, busid, numbers and descriptors of the rig's device.
    private static let record: [UInt8] =
        USBIPWire.padded("/vusb/guests/web1/devices/1-1", 256) + USBIPWire.padded("1-1")
        // Bus 1, device 2, high speed; 0525:a4a0, 1.00; class 0; configuration 1 of 1, 1 interface.
        + [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0x05, 0x25, 0xa4, 0xa0, 0x01, 0x00, 0, 0, 0, 1, 1, 1]

    @Test("a list has what the guest holds, and ends the connection", arguments: [false, true])
    func list(isTCP: Bool) async throws {
        let rig = try USBIPRig(isTCP: isTCP)
        let expected: [UInt8] = [0x01, 0x11, 0x00, 0x05, 0, 0, 0, 0, 0, 0, 0, 1] + Self.record + [0xff, 0, 0, 0]
        #expect(try await reply(rig, USBIPWire.list) == expected)
        await rig.finish()
    }

    @Test("a list has nothing of other guests, and is in the order of the numbers")
    func listOrder() async throws {
        let rig = try USBIPRig()
        let others = try [("web1", "1-10", 3), ("web1", "1-9", 9), ("web2", "1-2", 1)].map { guest, path, number in
            try rig.front.export(
                rig.device,
                at: USBIPPlace(guest: guest, path: path, busNumber: 1, deviceNumber: UInt16(number)))
        }
        let bytes = try await reply(rig, USBIPWire.list)
        #expect(bytes[8..<12] == [0, 0, 0, 3])
        let paths = (0..<3).map { bytes[(12 + 316 * $0 + 256)..<(12 + 316 * $0 + 261)] }
        #expect(paths.map(Array.init) == [[49, 45, 49, 0, 0], [49, 45, 49, 48, 0], [49, 45, 57, 0, 0]])
        for other in others { await other.end() }
        await rig.finish()
    }

    @Test("an import gives the record without interfaces, and is told of")
    func importDevice() async throws {
        let rig = try USBIPRig()
        let peer = try USBIPPeer(rig.target)
        peer.startReading()
        peer.send(USBIPWire.importDevice())
        #expect(await peer.next() == .imported(status: 0, record: Self.record))
        guard case .imported(USBIPRig.place, let who)? = await rig.waitForImport() else {
            Issue.record("no event")
            return
        }
        #expect(who.hasPrefix("user "))
        #expect(rig.export.status.state == .imported && rig.export.status.peer == who)
        await rig.finish(peer)
    }

    @Test(
        "what the guest doesn't hold isn't there, whoever has it",
        arguments: ["1-2", "", "1-1/../1-1", "../1-1", "1-1.", "1-1\u{fe}", "/dev/bus/usb/001/002"])
    func notHeld(busID: String) async throws {
        let rig = try USBIPRig()
        let other = try rig.front.export(
            rig.device, at: USBIPPlace(guest: "web2", path: "1-2", busNumber: 1, deviceNumber: 3))
        #expect(try await reply(rig, USBIPWire.importDevice(busID)) == [0x01, 0x11, 0x00, 0x03, 0, 0, 0, 4])
        #expect(other.status.state == .free)
        await other.end()
        await rig.finish()
    }

    @Test("a busid that isn't text isn't there")
    func noText() async throws {
        let rig = try USBIPRig()
        let busID = [0xff, 0xfe, 0x80] + Array(repeating: UInt8(0), count: 29)
        #expect(try await reply(rig, USBIPWire.importDevice(busID)) == [0x01, 0x11, 0x00, 0x03, 0, 0, 0, 4])
        await rig.finish()
    }

    @Test("what another connection has is busy, and free again once it was readmitted")
    func busy() async throws {
        let rig = try USBIPRig()
        let first = try await rig.connect()
        let busy: [UInt8] = [0x01, 0x11, 0x00, 0x03, 0, 0, 0, 2]
        #expect(try await reply(rig, USBIPWire.importDevice()) == busy)
        first.close()
        #expect(await rig.events.wait(for: 3).count == 3)
        #expect(rig.export.status.state == .resting)
        #expect(try await reply(rig, USBIPWire.importDevice()) == busy)
        rig.export.readmit()
        let second = try await rig.connect()
        await rig.finish(first, second)
    }

    @Test("a request that comes in pieces is understood", arguments: 1...40)
    func pieces(count: Int) async throws {
        let rig = try USBIPRig()
        let peer = try USBIPPeer(rig.target)
        peer.startReading()
        peer.send(USBIPWire.importDevice(), pieces: count)
        #expect(await peer.next() == .imported(status: 0, record: Self.record))
        await rig.finish(peer)
    }

    @Test("commands in one piece with the import are carried out")
    func pipelined() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete(data: [3])))
        let peer = try USBIPPeer(rig.target)
        peer.startReading()
        peer.expectData(1)
        peer.send(USBIPWire.importDevice() + peer.wire.bulkIn(1, 64))
        #expect(await peer.next(2).last == .done(1, [3]))
        await rig.finish(peer)
    }

    @Test("who has said all is answered though it says no more")
    func halfClosed() async throws {
        let rig = try USBIPRig()
        let peer = try USBIPPeer(rig.target)
        peer.send(USBIPWire.list)
        peer.finishSending()
        #expect(await peer.bytesUntilClosed().count == 12 + 312 + 4)
        await rig.finish()
    }

    @Test(
        "H1: what isn't a request of this version ends it without an answer",
        arguments: [
            (USBIPWire.operation(0x8005, version: 0x0110), "version 272"),
            (USBIPWire.operation(0x8003, version: 0, Array(repeating: 0, count: 32)), "version 0"),
            (USBIPWire.operation(0x0005), "the code 5"), (USBIPWire.operation(0x8004), "the code 32772"),
            (USBIPWire.importDevice(Array(repeating: 0x31, count: 32)), "a busid without an end"),
            (Array("GET / HTTP/1.1\r\n\r\n".utf8), "version 18245"),
            ([1, 0, 5, 0, 0, 0, 0, 0], "version 256"),
        ])
    func noRequest(said: [UInt8], reason: String) async throws {
        let rig = try USBIPRig()
        #expect(try await reply(rig, said) == [])
        guard case .refused(listener: _, peer: _, let why, others: 0)? = await rig.events.wait(for: 1).first else {
            Issue.record("no event")
            return
        }
        #expect(why.contains(reason))
        await rig.finish()
    }

    @Test("a peer that is no guest is closed")
    func noGuest() async throws {
        let rig = try USBIPRig(guests: .resolved { _ in nil })
        #expect(try await reply(rig, USBIPWire.list) == [])
        await rig.finish()
    }

    @Test("a peer is known by its credentials")
    func resolved() async throws {
        let rig = try USBIPRig(
            guests: .resolved { identity in
                guard case .user(let uid, _, let process) = identity else { return nil }
                return uid == geteuid() && process == getpid() ? "web1" : nil
            })
        let peer = try await rig.connect()
        await rig.finish(peer)
    }

    @Test("TCP without TLS has one guest")
    func plainTCP() {
        #expect(throws: USBError.self) { try USBIPListenerDefinition(.tcp(), .resolved { _ in "web1" }) }
    }

    @Test("a place is one device's; one that is taken back isn't there")
    func exports() async throws {
        let rig = try USBIPRig()
        #expect(throws: USBError.self) { try rig.front.export(rig.device, at: USBIPRig.place) }
        await rig.export.end()
        #expect(try await reply(rig, USBIPWire.importDevice()) == [0x01, 0x11, 0x00, 0x03, 0, 0, 0, 4])
        let again = try rig.front.export(rig.device, at: USBIPRig.place)
        let peer = try await rig.connect()
        await again.end()
        await rig.finish(peer)
    }

    @Test("nobody connects to a listener that has ended; sessions go on")
    func listenerEnds() async throws {
        let rig = try USBIPRig(ScriptedBackend(always: .complete()))
        let peer = try await rig.connect()
        await rig.listener.end()
        #expect(throws: USBIPPeer.NobodyListens.self) { try USBIPPeer(rig.target) }
        peer.send(peer.wire.bulkOut(1, []))
        #expect(await peer.next() == .done(1))
        await rig.finish(peer)
    }

    @Test("an address that can't be, or that is in use, is told of")
    func badAddresses() async throws {
        let front = USBIPFront(patience: .endless)
        let long = "/tmp/" + String(repeating: "x", count: 120)
        for endpoint in [.tcp(host: "localhost"), .unix(path: long), .unix(path: "/nowhere/x"), .unix(path: "/tmp")]
            as [USBIPListenerDefinition.Endpoint]
        {
            let definition = try USBIPListenerDefinition(endpoint, .one("web1"))
            #expect(throws: USBError.self) { try front.listen(definition) }
        }
        let first = try front.listen(USBIPListenerDefinition(.tcp(port: 0), .one("web1")))
        let taken = try USBIPListenerDefinition(.tcp(port: first.port ?? 0), .one("web1"))
        #expect(throws: USBError.self) { try front.listen(taken) }
        await front.stop()
    }
}
