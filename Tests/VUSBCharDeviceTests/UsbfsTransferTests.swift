// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

@Suite("usbfs: URBs")
struct UsbfsTransferTests {
    @Test("a URB that ends can be reaped: status, length and data are the caller's (U3)")
    func bulkIn() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        #expect(rig.submit(session, TestUsbfsURB()) == .result(0))
        #expect(rig.reap(session) == nil)
        #expect(rig.backend.completeNext(data: [1, 2, 3]))
        #expect(rig.reap(session) == ReapedURB(address: UsbfsRig.urb(0), status: 0, actualLength: 3))
        #expect(rig.kernel.read(UsbfsRig.buffer, 4) == [1, 2, 3, 0])
        // What usbfs doesn't write is as it was.
        #expect(rig.kernel.i32(UsbfsRig.urb(0) + 8) == 0)
        await rig.finish()
    }

    @Test("OUT data reach the device, and URBs are reaped in the order of their ends")
    func order() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.kernel.write([9, 8, 7], at: UsbfsRig.buffer)
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 2, length: 3), at: 0) == .result(0))
        #expect(rig.submit(session, TestUsbfsURB(), at: 1) == .result(0))
        #expect(rig.backend.held.first?.bytes == [9, 8, 7])
        rig.backend.held.last?.complete(data: [5])
        rig.backend.completeNext()
        #expect(rig.reap(session)?.address == UsbfsRig.urb(1))
        #expect(rig.reap(session) == ReapedURB(address: UsbfsRig.urb(0), status: 0, actualLength: 3))
        #expect(rig.reap(session) == nil)
        await rig.finish()
    }

    @Test("a failed URB has the kernel's negative errno")
    func stall() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        rig.backend.completeNext(.stall)
        #expect(rig.reap(session)?.status == -EPIPE)
        await rig.finish()
    }

    @Test("control by URB: IN data come behind the setup packet, OUT data with it")
    func control() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.kernel.write([0xc0, 0x5c, 0, 0, 0, 0, 4, 0, 0xee, 0xee, 0xee, 0xee], at: UsbfsRig.buffer)
        #expect(rig.submit(session, TestUsbfsURB(type: 2, endpoint: 0, length: 12)) == .result(0))
        rig.backend.completeNext(data: [1, 2])
        #expect(rig.reap(session) == ReapedURB(address: UsbfsRig.urb(0), status: 0, actualLength: 2))
        #expect(rig.kernel.read(UsbfsRig.buffer, 12) == [0xc0, 0x5c, 0, 0, 0, 0, 4, 0, 1, 2, 0xee, 0xee])
        rig.kernel.write([0x40, 0x5b, 0, 0, 0, 0, 3, 0, 7, 8, 9], at: UsbfsRig.buffer)
        #expect(rig.submit(session, TestUsbfsURB(type: 2, endpoint: 0, length: 11)) == .result(0))
        #expect(rig.backend.held.first?.bytes == [7, 8, 9])
        rig.backend.completeNext()
        #expect(rig.reap(session)?.actualLength == 3)
        await rig.finish()
    }

    @Test("isochronous packets are told each, gaps are zeros, and the URB itself is all right")
    func isochronous() async throws {
        let rig = try UsbfsRig(alternate: 1)
        let session = try rig.open()
        rig.kernel.write(Array(repeating: 0xee, count: 300), at: UsbfsRig.buffer)
        let urb = TestUsbfsURB(
            type: 0, endpoint: 0x83, flags: 2, length: 0, packetsOrStream: 3, packets: [100, 100, 100])
        #expect(rig.submit(session, urb) == .result(0))
        rig.backend.held.first?.completeIsochronous([(100, 0), (2, 0), (0, -EXDEV)], errorCount: 1)
        #expect(rig.reap(session) == ReapedURB(address: UsbfsRig.urb(0), status: 0, actualLength: 102))
        let packets = (0..<3).map { UsbfsRig.urb(0) + 56 + 12 * UInt64($0) }
        #expect(packets.map { rig.kernel.i32($0 + 4) } == [100, 2, 0])
        #expect(packets.map { rig.kernel.i32($0 + 8) } == [0, 0, -EXDEV])
        #expect(rig.kernel.i32(UsbfsRig.urb(0) + 40) == 1)
        #expect(rig.kernel.read(UsbfsRig.buffer + 100, 4) == [16, 17, 0, 0])
        let tooLong = TestUsbfsURB(type: 0, endpoint: 0x83, length: 0, packetsOrStream: 1, packets: [1025])
        #expect(rig.submit(session, tooLong) == .error(EMSGSIZE))
        await rig.finish()
    }

    @Test("what isn't there, or is of another type, is refused (U1)")
    func refused() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 0x77)) == .error(EINVAL))
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 0x8e)) == .error(ENOENT))
        // Of another setting of the interface.
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 0x85)) == .error(ENOENT))
        #expect(rig.submit(session, TestUsbfsURB(type: 1)) == .error(EINVAL))
        #expect(rig.submit(session, TestUsbfsURB(type: 2)) == .error(EINVAL))
        #expect(rig.submit(session, TestUsbfsURB(endpoint: 2, buffer: 0x10)) == .error(EFAULT))
        #expect(rig.kernel.outcome(rig.kernel.ioctl(session, UsbfsRig.submitURB, 0x10)) == .error(EFAULT))
        #expect(rig.backend.calls.elements.isEmpty)
        await rig.finish()
    }

    @Test("what the device refuses at once is SUBMITURB's error, and nothing is left of it (U2)")
    func refusedAtOnce() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.device.stopAdmitting()
        #expect(rig.submit(session, TestUsbfsURB()) == .error(EBUSY))
        #expect(rig.reap(session) == nil)
        rig.device.resumeAdmitting()
        #expect(rig.submit(session, TestUsbfsURB()) == .result(0))
        #expect(rig.node.memoryInUse == 512 + UsbfsURBSlot.overhead)
        await rig.finish()
    }

    @Test("16 MiB that nobody has reaped are enough (U23)")
    func memory() async throws {
        let rig = try UsbfsRig(ScriptedBackend(always: .complete(.success)))
        let session = try rig.open()
        var accepted = 0
        while rig.submit(session, TestUsbfsURB(length: 126_976)) == .result(0), accepted < 1000 { accepted += 1 }
        #expect(accepted == UsbfsABI.memoryLimit / (126_976 + UsbfsURBSlot.overhead))
        #expect(rig.submit(session, TestUsbfsURB(length: 126_976)) == .error(ENOMEM))
        #expect(rig.reap(session) != nil)
        #expect(rig.submit(session, TestUsbfsURB(length: 126_976)) == .result(0))
        await rig.finish()
    }

    @Test("DISCARDURB returns when the URB has ended, which is ENOENT then (U7, U8)")
    func discard() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        let kernel = rig.kernel
        #expect(kernel.outcome(kernel.ioctl(session, UsbfsRig.discardURB, UsbfsRig.urb(0))) == .result(0))
        #expect(rig.reap(session)?.status == -ENOENT)
        #expect(kernel.outcome(kernel.ioctl(session, UsbfsRig.discardURB, UsbfsRig.urb(0))) == .error(EINVAL))
        await rig.finish()
    }

    @Test("DISCARDURB waits for a device that takes its time, but not on when it's interrupted (U7, U13)")
    func slowDiscard() async throws {
        let rig = try UsbfsRig(
            ScriptedBackend([
                .submit(.in(0x81, 512), .hold), .cancel(.ignore), .submit(.in(0x81, 512), .hold), .cancel(.ignore),
            ]))
        let session = try rig.open()
        let kernel = rig.kernel
        rig.submit(session, TestUsbfsURB())
        let first = kernel.ioctl(session, UsbfsRig.discardURB, UsbfsRig.urb(0))
        #expect(kernel.outcome(first) == nil)
        rig.backend.completeNext(data: [1])
        #expect(kernel.outcome(first) == .result(0))
        // It came first.
        #expect(rig.reap(session) == ReapedURB(address: UsbfsRig.urb(0), status: 0, actualLength: 1))
        rig.submit(session, TestUsbfsURB())
        let second = kernel.ioctl(session, UsbfsRig.discardURB, UsbfsRig.urb(0))
        session.interrupted(second)
        #expect(kernel.outcome(second) == .result(0))
        rig.backend.completeNext(.cancelled)
        #expect(rig.reap(session)?.status == -ENOENT)
        await rig.finish()
    }

    @Test("REAPURB waits, without a thread that does, until one ends (U11), or a signal comes (U13)")
    func blockingReap() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        let reap = rig.kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer)
        #expect(rig.kernel.outcome(reap) == nil && rig.kernel.call(reap)?.isWatched == true)
        rig.backend.completeNext(data: [4, 5])
        #expect(rig.kernel.outcome(reap) == .result(0))
        #expect(rig.reaped() == ReapedURB(address: UsbfsRig.urb(0), status: 0, actualLength: 2))
        let interrupted = rig.kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer)
        session.interrupted(interrupted)
        #expect(rig.kernel.outcome(interrupted) == .error(EINTR))
        // Before it waits, from inside of the registration.
        let early = rig.kernel.ioctl(session, UsbfsRig.reapURB, FakeKernel.interruptedEarly)
        #expect(rig.kernel.outcome(early) == .error(EINTR))
        await rig.finish()
    }

    @Test("of two who are offered the same URB the first one back gets it, the other waits on (U12)")
    func twoReapers() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let kernel = rig.kernel
        rig.submit(session, TestUsbfsURB(), at: 0)
        let slow = kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer, caller: 7, heldAfter: 0)
        let fast = kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer + 8, caller: 8)
        rig.backend.completeNext(data: [1])
        #expect(kernel.outcome(fast) == .result(0))
        kernel.goOn(slow)
        #expect(kernel.outcome(slow) == nil)
        rig.submit(session, TestUsbfsURB(), at: 1)
        rig.backend.completeNext(data: [2])
        #expect(kernel.outcome(slow) == .result(0))
        #expect(rig.reaped().address == UsbfsRig.urb(1))
        await rig.finish()
    }

    @Test("a URB that was offered to somebody who has died is the next one's (U12)")
    func abandonedOffer() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        rig.backend.completeNext(data: [1])
        rig.kernel.ioctl(session, UsbfsRig.reapURBNoDelay, UsbfsRig.pointer, caller: 7, heldAfter: 0)
        #expect(rig.reap(session)?.address == UsbfsRig.urb(0))
        await rig.finish()
    }

    @Test("poll says when there is something to be reaped, and is told of a change")
    func poll() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let poller = FakePoller()
        rig.submit(session, TestUsbfsURB())
        #expect(rig.poll(session, poller) == .result(0))
        rig.backend.completeNext()
        #expect(poller.told.count == 1)
        #expect(rig.poll(session) == .result(POLLOUT | POLLWRNORM))
        _ = rig.reap(session)
        #expect(rig.poll(session) == .result(0))
        await rig.finish()
    }

    @Test("descriptors are read on from where the last read ended, and anew after the end or an ioctl")
    func read() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open(isWritable: false)
        let kernel = rig.kernel
        func bytes(_ size: Int) -> [UInt8]? { kernel.call(kernel.request { session.read($0, size: size) })?.bytes }
        let whole = SampleDevice.zeroBytes
        #expect(bytes(18) == Array(whole[..<18]))
        #expect(bytes(4096) == Array(whole[18...]))
        #expect(bytes(4096) == [])
        #expect(bytes(4096) == whole)
        #expect(rig.ioctl(session, UsbfsRig.getSpeed) == .error(EPERM))
        #expect(bytes(4096) == whole)
        await rig.finish()
    }
}
