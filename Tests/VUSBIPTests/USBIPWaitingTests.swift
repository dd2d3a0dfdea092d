// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: connections that import nothing")
struct USBIPWaitingTests {
    private var impatient: USBIPPatience {
        var patience = USBIPPatience()
        patience.request = .milliseconds(50)
        patience.report = .zero
        return patience
    }

    @Test(
        "K6: who imports nothing in time is cut, whatever it has said of it",
        arguments: [[], [1], Array(USBIPWire.importDevice().dropLast())])
    func late(said: [UInt8]) async throws {
        let rig = try USBIPRig(isTCP: true, patience: impatient)
        let peer = try USBIPPeer(rig.target)
        peer.send(said)
        #expect(await peer.bytesUntilClosed() == [])
        guard case .refused(_, _, "it has imported nothing in time", 0)? = await rig.events.wait(for: 1).first else {
            Issue.record("no event")
            return
        }
        await rig.finish()
    }

    @Test("K6: who has imported may be silent")
    func silent() async throws {
        // Time enough for a slow machine to import.
        var patience = impatient
        patience.request = .seconds(3)
        let rig = try USBIPRig(ScriptedBackend(always: .complete()), isTCP: true, patience: patience)
        let peer = try await rig.connect()
        // Another one's time is over after this one's would be.
        let late = try USBIPPeer(rig.target)
        _ = await late.bytesUntilClosed()
        peer.send(peer.wire.bulkOut(1, []))
        #expect(await peer.next() == .done(1))
        await rig.finish(peer)
    }

    @Test("K6: on a Unix socket who imports nothing may wait, as the port of a machine that boots")
    func waiting() async throws {
        let rig = try USBIPRig(patience: impatient)
        let peer = try USBIPPeer(rig.target)
        peer.startReading()
        // Another one's time is over after this one's would be.
        let other = try USBIPRig(isTCP: true, patience: impatient)
        _ = try await USBIPPeer(other.target).bytesUntilClosed()
        peer.send(USBIPWire.importDevice())
        guard case .imported(status: 0, _)? = await peer.next() else {
            Issue.record("no import")
            return
        }
        await rig.finish(peer)
        await other.finish()
    }

    @Test("K7: 1,000 connections that say a byte hold up nobody, and only 64 stay")
    func thousand() async throws {
        // A slow machine is to cut none for its time.
        var patience = USBIPPatience()
        patience.request = .seconds(600)
        let rig = try USBIPRig(isTCP: true, patience: patience)
        var slow: [USBIPPeer] = []
        for index in 0..<1000 {
            let peer = try USBIPPeer(rig.target)
            peer.send([1])
            slow.append(peer)
            if index % 100 == 99 {
                let other = try USBIPPeer(rig.target)
                other.send(USBIPWire.list)
                #expect(await other.bytesUntilClosed().count == 12 + 312 + 4)
            }
        }
        for index in stride(from: 0, to: 1000 - USBIPLimits.waiting, by: 25) {
            #expect(await slow[index].bytesUntilClosed() == [])
        }
        // Those that were last can still go on.
        let last = slow[999]
        last.startReading()
        last.send(Array(USBIPWire.importDevice().dropFirst()))
        guard case .imported(status: 0, _)? = await last.next() else {
            Issue.record("no import")
            return
        }
        // One report for hundreds, and the import.
        #expect(rig.events.count < 100)
        await rig.finish(last)
    }
}
