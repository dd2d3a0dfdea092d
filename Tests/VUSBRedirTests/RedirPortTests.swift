// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: ports")
struct RedirPortTests {
    @Test("the socket is the owner's alone, and is gone once somebody has connected")
    func socket() async throws {
        let rig = try RedirRig()
        let attributes = try FileManager.default.attributesOfItem(atPath: rig.port.socketPath)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        #expect(rig.port.status == RedirStatus(state: .waiting))
        let peer = try await rig.connect()
        #expect(!FileManager.default.fileExists(atPath: rig.port.socketPath))
        #expect(throws: (any Error).self) { try RedirPeer(path: rig.port.socketPath) }
        await rig.finish(peer)
    }

    @Test("of two that connect one is served, the other finds the end")
    func twoPeers() async throws {
        let rig = try RedirRig()
        let peers = [try RedirPeer(path: rig.port.socketPath)]
        // It may be too late already, which is as good.
        let second = try? RedirPeer(path: rig.port.socketPath)
        for peer in peers + (second.map { [$0] } ?? []) {
            peer.startReading()
            peer.send(peer.wire.hello())
        }
        #expect(await peers[0].next(4).count == 4)
        if let second { #expect(await second.untilClosed() == []) }
        await rig.finish(peers[0])
    }

    @Test("a socket that was left behind is replaced")
    func leftBehind() async throws {
        let rig = try RedirRig()
        #expect(FileManager.default.createFile(atPath: rig.directory + "/web1-1-2", contents: nil))
        let port = try rig.front.open(path: "1-2", of: "web1", device: rig.device, owner: geteuid())
        let peer = try RedirPeer(path: port.socketPath)
        peer.startReading()
        #expect(await peer.next() == .hello("vusb test"))
        port.end()
        _ = await peer.untilClosed()
        await rig.finish()
    }

    @Test("a path that is too long for a socket is refused with what helps")
    func longPath() async throws {
        let rig = try RedirRig()
        let error = #expect(throws: USBError.self) {
            try rig.front.open(
                path: "1-2", of: String(repeating: "g", count: 100), device: rig.device, owner: geteuid())
        }
        #expect(error?.code == .invalid)
        await rig.finish()
    }

    @Test("a directory that can't be made is refused")
    func noDirectory() {
        let error = #expect(throws: USBError.self) {
            try RedirFront(directory: "/proc/self/no/such", version: "vusb test")
        }
        #expect(error?.code == .io)
    }

    @Test("ports of one front are apart: a violation at one leaves the other")
    func apart() async throws {
        let rig = try RedirRig(ScriptedBackend([.submit(.in(0x81, 8), .complete(data: [1]))]))
        let other = try rig.front.open(path: "1-2", of: "web1", device: rig.device, owner: geteuid())
        let good = try await rig.connect()
        let bad = try RedirPeer(path: other.socketPath)
        bad.startReading()
        bad.send(Array(repeating: 0xff, count: 100))
        _ = await bad.untilClosed()
        good.send(good.wire.bulkIn(1, 8))
        #expect(await good.nextPacket()?.data == [1])
        other.end()
        await rig.finish(good)
    }

    // MARK: - Waiting

    @Test("who waits for a hello is told when it comes")
    func waitForHello() async throws {
        let rig = try RedirRig()
        async let status = rig.port.waitForHello(within: .seconds(20))
        let peer = try await rig.connect()
        #expect(await status.state == .connected)
        #expect(await rig.port.waitForHello(within: .zero).peer == "peer 1")
        await rig.finish(peer)
    }

    @Test("who waits for a hello that doesn't come is told at the limit how far it is")
    func waitInVain() async throws {
        let rig = try RedirRig()
        #expect(await rig.port.waitForHello(within: .milliseconds(1)).state == .waiting)
        let peer = try RedirPeer(path: rig.port.socketPath)
        peer.startReading()
        _ = await peer.next()
        #expect(await rig.port.waitForHello(within: .milliseconds(1)).state == .greeting)
        await rig.finish(peer)
    }

    @Test("who waits for a hello is told that the guest's side has gone, or that it has ended here")
    func waitForEnd() async throws {
        let rig = try RedirRig()
        async let status = rig.port.waitForHello(within: .seconds(20))
        let peer = try RedirPeer(path: rig.port.socketPath)
        peer.close()
        #expect(await status.state == .closed)
        await rig.finish()

        let other = try RedirRig()
        async let ended = other.port.waitForHello(within: .seconds(20))
        other.port.end()
        #expect(await ended.state == .closed)
        await other.finish()
    }

    @Test("who is cancelled doesn't wait")
    func waitCancelled() async throws {
        let rig = try RedirRig()
        let task = Task { await rig.port.waitForHello(within: .seconds(20)) }
        task.cancel()
        #expect(await task.value.state == .waiting)
        await rig.finish()
    }
}
