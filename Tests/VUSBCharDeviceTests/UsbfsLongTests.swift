// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

/// URBs with more data than CUSE can carry in one round; `FakeKernel` traps on a round that's longer.
@Suite("usbfs: long URBs")
struct UsbfsLongTests {
    private static let piece = UsbfsABI.dataLimit

    private func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 / 509) } }

    /// - Returns: how often the URB was asked for in vain before it came.
    private func reapAll(_ rig: UsbfsRig, _ session: UsbfsSession) -> (pieces: Int, urb: ReapedURB?) {
        for pieces in 0..<100 {
            switch rig.kernel.outcome(rig.kernel.ioctl(session, UsbfsRig.reapURBNoDelay, UsbfsRig.pointer)) {
            case .result(0): return (pieces, rig.reaped())
            case .result(-EAGAIN): continue
            default: return (pieces, nil)
            }
        }
        return (100, nil)
    }

    @Test(
        "OUT data that come in several rounds reach the device as one URB (U24)",
        arguments: [piece, piece + 1, 2 * piece, 262_144, 1 << 20])
    func out(_ count: Int) async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.kernel.write(pattern(count), at: UsbfsRig.buffer)
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 2, length: UInt32(count))) == .result(0))
        #expect(rig.backend.held.map(\.requestedLength) == [count])
        #expect(rig.backend.held.first?.bytes == pattern(count))
        #expect(rig.node.memoryInUse == count + UsbfsURBSlot.overhead)
        rig.backend.completeNext()
        #expect(rig.reap(session) == ReapedURB(address: UsbfsRig.urb(0), status: 0, actualLength: Int32(count)))
        await rig.finish()
    }

    @Test(
        "IN data go to the caller in pieces; the URB is there when all of them are (U25)",
        arguments: [(piece, 0), (piece + 1, 1), (262_144, 2), (1 << 20, 8)])
    func into(_ count: Int, _ pieces: Int) async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        #expect(rig.submit(session, TestUsbfsURB(length: UInt32(count))) == .result(0))
        rig.backend.completeNext(data: pattern(count))
        let (found, urb) = reapAll(rig, session)
        #expect(found == pieces)
        #expect(urb == ReapedURB(address: UsbfsRig.urb(0), status: 0, actualLength: Int32(count)))
        #expect(rig.kernel.read(UsbfsRig.buffer, count) == pattern(count))
        await rig.finish()
    }

    @Test("between two pieces there is something to be reaped, for who polls and for who waits (U25)")
    func waiting() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB(length: UInt32(Self.piece + 5)))
        let first = rig.kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer, caller: 1)
        let second = rig.kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer + 8, caller: 2)
        rig.backend.completeNext(data: pattern(Self.piece + 5))
        // Each is told to ask again, as after a signal.
        #expect(rig.kernel.outcome(first) == .result(-EINTR))
        #expect(rig.kernel.outcome(second) == .result(-EINTR))
        let again = rig.kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer, caller: 2)
        #expect(rig.kernel.outcome(again) == .result(0))
        #expect(rig.kernel.read(UsbfsRig.buffer, Self.piece + 5) == pattern(Self.piece + 5))
        rig.submit(session, TestUsbfsURB(length: UInt32(Self.piece + 5)))
        rig.backend.completeNext(data: pattern(Self.piece + 5))
        let poller = FakePoller()
        #expect(rig.poll(session, poller) == .result(POLLOUT | POLLWRNORM))
        #expect(rig.reap(session) == nil)
        // Who waits for changes, not for what is, hears that there is more.
        #expect(poller.told.count == 1)
        #expect(rig.poll(session) == .result(POLLOUT | POLLWRNORM))
        #expect(rig.reap(session) != nil)
        #expect(rig.poll(session) == .result(0))
        await rig.finish()
    }

    @Test("of two who reap it each gets all from the first piece on: they may not share their memory (U12, U25)")
    func twoReapers() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB(length: UInt32(2 * Self.piece)))
        rig.backend.completeNext(data: pattern(2 * Self.piece))
        let slow = rig.kernel.ioctl(
            session, UsbfsRig.reapURBNoDelay, UsbfsRig.pointer, caller: 7, heldAfter: 0)
        #expect(rig.reap(session) == nil)
        let zeros = Array(repeating: UInt8(0), count: 2 * Self.piece)
        rig.kernel.write(zeros, at: UsbfsRig.buffer)
        rig.kernel.goOn(slow)
        #expect(rig.kernel.outcome(slow) == .result(-EAGAIN))
        #expect(rig.kernel.read(UsbfsRig.buffer, 2 * Self.piece) == pattern(Self.piece) + zeros[Self.piece...])
        rig.kernel.write(zeros, at: UsbfsRig.buffer)
        #expect(rig.reap(session) != nil)
        #expect(
            rig.kernel.read(UsbfsRig.buffer, 2 * Self.piece)
                == zeros[..<Self.piece] + Array(pattern(2 * Self.piece)[Self.piece...]))
        // For the other there is nothing left.
        let late = rig.kernel.ioctl(session, UsbfsRig.reapURBNoDelay, UsbfsRig.pointer, caller: 7)
        #expect(rig.kernel.outcome(late) == .error(EAGAIN))
        await rig.finish()
    }

    @Test(
        "what has ended is reaped before the device's end is told: libusb reaps then until the first error (U21, U25)")
    func gone() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let poller = FakePoller()
        rig.submit(session, TestUsbfsURB(length: UInt32(Self.piece + 5)), at: 0)
        rig.submit(session, TestUsbfsURB(), at: 1)
        rig.backend.completeNext(data: pattern(Self.piece + 5))
        rig.backend.completeNext(data: [1])
        rig.node.end()
        #expect(rig.poll(session, poller) == .result(POLLOUT | POLLWRNORM))
        #expect(rig.reap(session) == nil)
        #expect(rig.poll(session, poller) == .result(POLLOUT | POLLWRNORM))
        #expect(rig.reap(session)?.address == UsbfsRig.urb(0))
        #expect(poller.told.count == 2)
        #expect(rig.poll(session) == .result(POLLOUT | POLLWRNORM | POLLERR | POLLHUP))
        #expect(rig.reap(session)?.address == UsbfsRig.urb(1))
        #expect(
            rig.kernel.outcome(rig.kernel.ioctl(session, UsbfsRig.reapURBNoDelay, UsbfsRig.pointer)) == .error(ENODEV))
        await rig.finish()
    }

    @Test("a caller that dies between two rounds leaves nothing but until the close, and little until then (U24)")
    func abandoned() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let urb = TestUsbfsURB(endpoint: 2, length: UInt32(Self.piece + 5))
        for caller in 1...Int32(UsbfsSession.outDataLimit + 3) {
            rig.kernel.write(urb.bytes, at: UsbfsRig.urb(0))
            // Its data have been asked for by then, and none come.
            rig.kernel.ioctl(session, UsbfsRig.submitURB, UsbfsRig.urb(0), caller: caller, heldAfter: 1)
        }
        #expect(rig.node.memoryInUse == UsbfsSession.outDataLimit * (Self.piece + 5 + UsbfsURBSlot.overhead))
        // The same thread again: its first try is forgotten.
        #expect(rig.submit(session, urb) == .result(0))
        await rig.finish()
    }

    @Test("what is half there goes when the device goes (U24)")
    func endsHalfThere() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.kernel.write(
            TestUsbfsURB(endpoint: 2, length: UInt32(2 * Self.piece)).bytes, at: UsbfsRig.urb(0))
        let call = rig.kernel.ioctl(session, UsbfsRig.submitURB, UsbfsRig.urb(0), caller: 0, heldAfter: 2)
        #expect(rig.node.memoryInUse > 0)
        rig.node.end()
        #expect(rig.node.memoryInUse == 0)
        rig.kernel.goOn(call)
        #expect(rig.kernel.outcome(call) == .error(ENODEV))
        await rig.finish()
    }

    @Test("threads that can't be seen have no number, and are told apart by their URBs (U24)")
    func unseen() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let urb = TestUsbfsURB(endpoint: 2, length: UInt32(2 * Self.piece))
        let calls = (0..<2).map { number in
            rig.kernel.write(urb.bytes, at: UsbfsRig.urb(number))
            return rig.kernel.ioctl(session, UsbfsRig.submitURB, UsbfsRig.urb(number), caller: 0, heldAfter: 2)
        }
        for call in calls { rig.kernel.goOn(call) }
        #expect(calls.map { rig.kernel.outcome($0) } == [.result(0), .result(0)])
        #expect(rig.backend.held.count == 2)
        await rig.finish()
    }

    @Test("a device that is to be quiet has its caller begin anew (U20, U24)")
    func quiet() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.kernel.write(pattern(2 * Self.piece), at: UsbfsRig.buffer)
        rig.kernel.write(
            TestUsbfsURB(endpoint: 2, length: UInt32(2 * Self.piece)).bytes, at: UsbfsRig.urb(0))
        let call = rig.kernel.ioctl(session, UsbfsRig.submitURB, UsbfsRig.urb(0), heldAfter: 2)
        rig.node.quiet()
        rig.kernel.goOn(call)
        #expect(rig.kernel.outcome(call) == nil)
        rig.node.resume()
        #expect(rig.kernel.outcome(call) == .result(0))
        #expect(rig.backend.held.first?.bytes == pattern(2 * Self.piece))
        await rig.finish()
    }

    @Test("a URB that its caller changes between two rounds is refused, and nothing is left of it (U24)")
    func changed() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let urb = TestUsbfsURB(endpoint: 2, length: UInt32(2 * Self.piece))
        rig.kernel.write(urb.bytes, at: UsbfsRig.urb(0))
        let call = rig.kernel.ioctl(session, UsbfsRig.submitURB, UsbfsRig.urb(0), heldAfter: 1)
        rig.kernel.write(
            TestUsbfsURB(endpoint: 2, length: UInt32(2 * Self.piece - 1)).bytes, at: UsbfsRig.urb(0))
        rig.kernel.goOn(call)
        #expect(rig.kernel.outcome(call) == .error(EINVAL))
        #expect(rig.node.memoryInUse == 0)
        await rig.finish()
    }

    @Test("more than there may be is refused before any of it is taken (U23)")
    func tooLong() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 2, length: 16 << 20 | 1)) == .error(ENOMEM))
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 2, length: 16 << 20)) == .error(ENOMEM))
        #expect(rig.node.memoryInUse == 0)
        #expect(rig.submit(session, TestUsbfsURB(length: 16 << 20)) == .error(ENOMEM))
        #expect(rig.submit(session, TestUsbfsURB(length: 12 << 20)) == .result(0))
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 2, length: 5 << 20)) == .error(ENOMEM))
        #expect(rig.backend.held.count == 1)
        await rig.finish()
    }

    @Test("isochronous packets, too, may be more than a round carries (U24, U25)")
    func isochronous() async throws {
        let rig = try UsbfsRig(alternate: 1)
        let session = try rig.open()
        // 128 packets of the most that this endpoint takes, 1,024 bytes.
        let packets = Array(repeating: UInt32(1024), count: 128)
        let urb = TestUsbfsURB(type: 0, endpoint: 0x83, flags: 2, length: 0, packetsOrStream: 128, packets: packets)
        #expect(rig.submit(session, urb) == .result(0))
        rig.backend.held.first?.completeIsochronous(packets.map { ($0, 0) }, errorCount: 0)
        let (pieces, reaped) = reapAll(rig, session)
        #expect(pieces == 1)
        #expect(reaped?.actualLength == 131_072)
        let sent = (0..<131_072).map { UInt8(truncatingIfNeeded: 16 * ($0 / 1024) + $0 % 1024) }
        let isRight = rig.kernel.read(UsbfsRig.buffer, 131_072) == sent
        #expect(isRight)
        rig.kernel.write(pattern(131_072), at: UsbfsRig.buffer)
        let out = TestUsbfsURB(type: 0, endpoint: 0x04, flags: 2, length: 0, packetsOrStream: 128, packets: packets)
        #expect(rig.submit(session, out) == .result(0))
        #expect(rig.backend.held.first?.bytes == pattern(131_072))
        await rig.finish()
    }
}
