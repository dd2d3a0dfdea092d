// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

@Suite("usbfs: bulk continuation")
struct UsbfsChainTests {
    /// As libusb splits a transfer: all but the last short-not-ok, all but the first continuations.
    private func submitChain(_ rig: UsbfsRig, _ session: UsbfsSession, _ lengths: [UInt32], from number: Int = 0) {
        for (index, length) in lengths.enumerated() {
            let flags =
                (index > 0 ? UsbfsRig.continuation : 0) | (index < lengths.count - 1 ? UsbfsRig.shortNotOK : 0)
            let urb = TestUsbfsURB(
                flags: flags, buffer: UsbfsRig.buffer + UInt64(number + index) * 0x1000, length: length)
            #expect(rig.submit(session, urb, at: number + index) == .result(0))
        }
    }

    private func reapAll(_ rig: UsbfsRig, _ session: UsbfsSession) -> [ReapedURB] {
        var all: [ReapedURB] = []
        while let one = rig.reap(session) { all.append(one) }
        return all
    }

    @Test("a chain is one transfer, whose data are dealt out")
    func whole() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        submitChain(rig, session, [1024, 1024, 512])
        #expect(rig.backend.held.map(\.requestedLength) == [2560])
        let data = (0..<2560).map { UInt8(truncatingIfNeeded: $0 / 512) }
        rig.backend.completeNext(data: data)
        #expect(reapAll(rig, session).map(\.actualLength) == [1024, 1024, 512])
        #expect(rig.kernel.read(UsbfsRig.buffer + 0x1000, 1024) == Array(data[1024..<2048]))
        #expect(rig.kernel.read(UsbfsRig.buffer + 0x2000, 512) == Array(data[2048...]))
        await rig.finish()
    }

    @Test("a chain that ends short in its second URB (U5)", arguments: [1024, 1500, 2047])
    func short(_ count: Int) async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        submitChain(rig, session, [1024, 1024, 1024])
        rig.backend.completeNext(data: Array(repeating: 1, count: count))
        let reaped = reapAll(rig, session)
        #expect(reaped.map(\.status) == [0, -EREMOTEIO, -ECONNRESET])
        #expect(reaped.map(\.actualLength) == [1024, Int32(count - 1024), 0])
        await rig.finish()
    }

    @Test("a short end in the last URB of a chain is a success")
    func shortLast() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        submitChain(rig, session, [1024, 1024])
        rig.backend.completeNext(data: Array(repeating: 1, count: 1030))
        #expect(reapAll(rig, session).map(\.status) == [0, 0])
        // A new transfer isn't affected.
        submitChain(rig, session, [512])
        #expect(rig.backend.held.count == 1)
        await rig.finish()
    }

    @Test("a chain that fails: what was whole stays so")
    func failed() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        submitChain(rig, session, [1024, 1024, 1024])
        rig.backend.held.first?.complete(.stall, data: Array(repeating: 1, count: 1100))
        let reaped = reapAll(rig, session)
        #expect(reaped.map(\.status) == [0, -EPIPE, -ECONNRESET])
        await rig.finish()
    }

    @Test("a first URB of which nothing follows goes when its opener does something else, or its time is over")
    func alone() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let first = TestUsbfsURB(flags: UsbfsRig.shortNotOK)
        rig.submit(session, first, at: 0)
        #expect(rig.backend.held.isEmpty)
        #expect(rig.reap(session) == nil)
        #expect(rig.backend.held.count == 1)
        rig.submit(session, first, at: 1)
        #expect(rig.backend.held.count == 1)
        rig.clock.advance()
        #expect(rig.backend.held.count == 2)
        rig.submit(session, first, at: 2)
        _ = rig.poll(session)
        #expect(rig.backend.held.count == 3)
        await rig.finish()
    }

    @Test("a piece that was cut off waits for the one before it; so does what is behind it")
    func pieces() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB(flags: UsbfsRig.shortNotOK), at: 0)
        rig.clock.advance()
        rig.submit(session, TestUsbfsURB(flags: UsbfsRig.continuation), at: 1)
        rig.submit(session, TestUsbfsURB(), at: 2)
        #expect(rig.backend.held.count == 1)
        rig.backend.completeNext(data: Array(repeating: 1, count: 512))
        #expect(rig.backend.held.count == 2)
        rig.backend.completeNext(data: [1])
        rig.backend.completeNext(data: [2])
        #expect(reapAll(rig, session).map(\.status) == [0, 0, 0])
        await rig.finish()
    }

    @Test("a piece that fails takes its continuations with it, and nothing else (U6)")
    func failedPiece() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB(flags: UsbfsRig.shortNotOK), at: 0)
        rig.clock.advance()
        rig.submit(session, TestUsbfsURB(flags: UsbfsRig.continuation), at: 1)
        rig.submit(session, TestUsbfsURB(), at: 2)
        rig.backend.completeNext(data: [1])
        let reaped = reapAll(rig, session)
        #expect(reaped.map(\.status) == [-EREMOTEIO, -ECONNRESET])
        #expect(rig.backend.held.count == 1)
        await rig.finish()
    }

    @Test("where no new transfer has begun, further continuations are refused until one does (U6)")
    func refusedContinuation() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB(), at: 0)
        rig.backend.completeNext(.stall)
        #expect(rig.submit(session, TestUsbfsURB(flags: UsbfsRig.continuation), at: 1) == .error(EREMOTEIO))
        // Other endpoints are others.
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 2, flags: UsbfsRig.continuation), at: 1) == .result(0))
        #expect(rig.submit(session, TestUsbfsURB(), at: 2) == .result(0))
        await rig.finish()
    }

    @Test("OUT URBs of a transfer are all at the device; one that fails has the rest cancelled (U6)")
    func out() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB(endpoint: 2), at: 0)
        for number in 1...2 { rig.submit(session, TestUsbfsURB(endpoint: 2, flags: UsbfsRig.continuation), at: number) }
        rig.submit(session, TestUsbfsURB(endpoint: 2), at: 3)
        #expect(rig.backend.held.count == 4)
        rig.backend.completeNext(.stall)
        #expect(reapAll(rig, session).map(\.status) == [-EPIPE, -ECONNRESET, -ECONNRESET])
        #expect(rig.backend.held.count == 1)
        await rig.finish()
    }

    @Test("DISCARDURB of one URB of a chain ends the chain (U9)")
    func discard() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        submitChain(rig, session, [512, 512, 512])
        rig.kernel.ioctl(session, UsbfsRig.discardURB, UsbfsRig.urb(2))
        let reaped = reapAll(rig, session)
        #expect(reaped.map(\.status) == [-ECONNRESET, -ECONNRESET, -ENOENT])
        // While it's gathering, too.
        rig.submit(session, TestUsbfsURB(flags: UsbfsRig.shortNotOK))
        rig.kernel.ioctl(session, UsbfsRig.discardURB, UsbfsRig.urb(0))
        #expect(rig.reap(session)?.status == -ENOENT)
        await rig.finish()
    }

    @Test("a chain is cut at 512 KiB")
    func limit() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        for number in 0..<6 {
            let flags = (number > 0 ? UsbfsRig.continuation : 0) | UsbfsRig.shortNotOK
            rig.submit(session, TestUsbfsURB(flags: flags, length: 126_976), at: number)
        }
        // Four URBs, and two that wait for these.
        #expect(rig.backend.held.map(\.requestedLength) == [4 * 126_976])
        await rig.finish()
    }
}
