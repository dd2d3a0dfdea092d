// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

@Suite("usbfs: claims, openers, the end")
struct UsbfsClaimTests {
    private func word(_ value: UInt32) -> [UInt8] { UsbfsRig.word(value) }

    @Test("an interface has one owner; the others hear EBUSY, until it's released or its owner closes (U16)")
    func owners() async throws {
        let rig = try UsbfsRig()
        let (first, second) = (try rig.open(), try rig.open())
        #expect(rig.ioctl(first, UsbfsRig.claimInterface, word(0)) == .result(0))
        #expect(rig.ioctl(first, UsbfsRig.claimInterface, word(0)) == .result(0))
        #expect(rig.ioctl(second, UsbfsRig.claimInterface, word(0)) == .error(EBUSY))
        #expect(rig.submit(second, TestUsbfsURB()) == .error(EBUSY))
        #expect(rig.ioctl(second, UsbfsRig.releaseInterface, word(0)) == .error(EINVAL))
        #expect(rig.ioctl(first, UsbfsRig.claimInterface, word(1)) == .error(ENOENT))
        #expect(rig.ioctl(first, UsbfsRig.claimInterface, word(64)) == .error(EINVAL))
        #expect(rig.ioctl(first, UsbfsRig.releaseInterface, word(0)) == .result(0))
        // U15.
        #expect(rig.submit(second, TestUsbfsURB()) == .result(0))
        #expect(rig.ioctl(first, UsbfsRig.claimInterface, word(0)) == .error(EBUSY))
        #expect(rig.close(second) == .result(0))
        #expect(rig.ioctl(first, UsbfsRig.claimInterface, word(0)) == .result(0))
        await rig.finish()
    }

    @Test("requests for an interface or endpoint are its owner's, vendors' anybody's")
    func recipients() async throws {
        let rig = try UsbfsRig(ScriptedBackend(always: .complete(.success)))
        let (first, second) = (try rig.open(), try rig.open())
        rig.ioctl(first, UsbfsRig.claimInterface, word(0))
        func control(_ type: UInt8, _ index: UInt16) -> FakeKernel.Outcome? {
            let setup: [UInt8] = [type, 0, 0, 0] + DescriptorBytes.word(index) + [0, 0]
            return rig.ioctl(second, UsbfsRig.control, setup + Array(repeating: 0, count: 16))
        }
        #expect(control(0x21, 0) == .error(EBUSY))
        #expect(control(0x22, 0x81) == .error(EBUSY))
        // Without its direction.
        #expect(control(0x22, 0x01) == .error(EBUSY))
        #expect(control(0x22, 0x8e) == .error(ENOENT))
        #expect(control(0x41, 0) == .result(0))
        #expect(control(0x00, 0) == .result(0))
        #expect(control(0x22, 0x80) == .result(0))
        await rig.finish()
    }

    @Test("GETDRIVER, DISCONNECT_CLAIM, IOCTL: usbfs is the only driver there is")
    func drivers() async throws {
        let rig = try UsbfsRig()
        let (first, second) = (try rig.open(), try rig.open())
        #expect(rig.ioctl(first, UsbfsRig.getDriver, word(0)) == .error(ENODATA))
        let name = Array("usbfs".utf8) + Array(repeating: UInt8(0), count: 251)
        let other = Array("sd".utf8) + Array(repeating: UInt8(0), count: 254)
        func claim(_ session: UsbfsSession, _ flags: UInt32, _ driver: [UInt8]) -> FakeKernel.Outcome? {
            rig.ioctl(session, UsbfsRig.disconnectClaim, word(0) + word(flags) + driver)
        }
        #expect(claim(first, 2, name) == .result(0))
        #expect(claim(second, 2, name) == .error(EBUSY))
        #expect(claim(second, 1, other) == .error(EBUSY))
        #expect(rig.ioctl(second, UsbfsRig.getDriver, word(0)) == .result(0))
        #expect(rig.kernel.read(UsbfsRig.argument, 10) == word(0) + Array("usbfs".utf8) + [0])
        func ioctl(_ code: UInt32) -> FakeKernel.Outcome? {
            rig.ioctl(second, UsbfsRig.ioctl, word(0) + word(code) + UsbfsRig.long(0))
        }
        #expect(ioctl(0x5517) == .error(EBUSY))
        rig.submit(first, TestUsbfsURB())
        #expect(ioctl(0x5516) == .result(0))
        // The owner is left without it, and without URBs on it (U17).
        #expect(rig.reap(first)?.status == -ESHUTDOWN)
        #expect(ioctl(0x5516) == .error(ENODATA))
        #expect(ioctl(0x5517) == .result(0))
        #expect(ioctl(0x1234) == .error(ENOTTY))
        await rig.finish()
    }

    @Test("dropped privileges leave the interfaces of the mask, and take the rest for ever")
    func privileges() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        #expect(rig.ioctl(session, UsbfsRig.dropPrivileges, word(1)) == .result(0))
        #expect(rig.ioctl(session, UsbfsRig.claimInterface, word(0)) == .result(0))
        #expect(rig.ioctl(session, UsbfsRig.ioctl, word(0) + word(0x5516) + UsbfsRig.long(0)) == .error(EACCES))
        rig.ioctl(session, UsbfsRig.releaseInterface, word(0))
        rig.ioctl(session, UsbfsRig.dropPrivileges, word(2))
        #expect(rig.ioctl(session, UsbfsRig.claimInterface, word(0)) == .error(EACCES))
        #expect(rig.submit(session, TestUsbfsURB()) == .error(EACCES))
        await rig.finish()
    }

    @Test("what the device is and where it is")
    func information() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        #expect(rig.ioctl(session, UsbfsRig.getSpeed) == .result(3))
        #expect(rig.ioctl(session, UsbfsRig.getCapabilities) == .result(0))
        #expect(rig.kernel.read(UsbfsRig.argument, 4) == word(0xdf))
        #expect(rig.ioctl(session, UsbfsRig.connectInfo) == .result(0))
        #expect(rig.kernel.read(UsbfsRig.argument, 8) == word(5) + word(0))
        #expect(rig.ioctl(session, UsbfsRig.connectInfoEx) == .result(0))
        #expect(
            rig.kernel.read(UsbfsRig.argument, 24) == word(24) + word(1) + word(5) + word(3) + [2, 2, 3, 0, 0, 0, 0, 0])
        #expect(rig.ioctl(session, UsbfsRig.claimPort, word(1)) == .error(EINVAL))
        let signal = word(10) + Array(repeating: 0, count: 12)
        #expect(rig.ioctl(session, UsbfsRig.disconnectSignal, signal) == .error(EINVAL))
        #expect(rig.ioctl(session, 0x5522) == .error(ENOTTY))
        #expect(CharDeviceFront.ports(of: "1-2.3") == [2, 3])
        await rig.finish()
    }

    /// A SuperSpeed device with four streams on 0x81.
    private static let streaming =
        DescriptorBytes.device(bcdUSB: 0x0300, maxPacketSize0: 9)
        + DescriptorBytes.configuration([
            DescriptorBytes.interface(0, endpoints: 2),
            DescriptorBytes.endpoint(0x81, maxPacketSize: 1024), DescriptorBytes.companion(attributes: 2),
            DescriptorBytes.endpoint(0x02, maxPacketSize: 1024), DescriptorBytes.companion(attributes: 0),
        ])

    @Test("streams are allotted as far as the endpoint has them, and URBs name one")
    func streams() async throws {
        let rig = try UsbfsRig(speed: .super, bytes: Self.streaming)
        let session = try rig.open()
        #expect(rig.ioctl(session, UsbfsRig.allocateStreams, word(16) + word(1) + [0x02]) == .error(EINVAL))
        #expect(rig.ioctl(session, UsbfsRig.allocateStreams, word(16) + word(1) + [0x81]) == .result(4))
        #expect(rig.ioctl(session, UsbfsRig.allocateStreams, word(16) + word(1) + [0x81]) == .error(EINVAL))
        #expect(rig.submit(session, TestUsbfsURB(length: 1024, packetsOrStream: 5)) == .error(EINVAL))
        #expect(rig.submit(session, TestUsbfsURB(length: 1024, packetsOrStream: 4)) == .result(0))
        #expect(rig.ioctl(session, UsbfsRig.freeStreams, word(0) + word(1) + [0x81]) == .result(0))
        #expect(rig.reap(session)?.status == -ENOENT)
        #expect(rig.ioctl(session, UsbfsRig.freeStreams, word(0) + word(1) + [0x81]) == .error(EINVAL))
        await rig.finish()
    }

    @Test("close cancels all, and returns when it has ended (U19)")
    func close() async throws {
        let rig = try UsbfsRig(ScriptedBackend([.submit(.in(0x81, 512), .hold), .cancel(.ignore)]))
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        let release = rig.kernel.request { reply in session.release(reply) }
        #expect(rig.kernel.outcome(release) == nil)
        #expect(rig.node.sessions.isEmpty && rig.node.claimedInterfaces.isEmpty)
        rig.backend.completeNext(.cancelled)
        #expect(rig.kernel.outcome(release) == .result(0))
        await rig.finish()
    }

    @Test("close doesn't wait for ever for a device that doesn't end its URBs (U19)")
    func boundedClose() async throws {
        let rig = try UsbfsRig(ScriptedBackend([.submit(.in(0x81, 512), .hold), .cancel(.ignore)]))
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        let release = rig.kernel.request { reply in session.release(reply) }
        rig.clock.advance()
        #expect(rig.kernel.outcome(release) == .result(0))
        rig.backend.completeNext(.cancelled)
        await rig.finish()
    }

    @Test("the device goes: what was pending can be reaped, then all is ENODEV, and poll says so (U21)")
    func gone() async throws {
        let rig = try UsbfsRig()
        let (session, waiting) = (try rig.open(), try rig.open())
        rig.submit(session, TestUsbfsURB())
        let reap = rig.kernel.ioctl(waiting, UsbfsRig.reapURB, UsbfsRig.pointer)
        let poller = FakePoller()
        _ = rig.poll(session, poller)
        rig.device.disconnect()
        rig.node.end()
        #expect(poller.told.count >= 1)
        #expect(rig.kernel.outcome(reap) == .error(ENODEV))
        #expect(rig.poll(session) == .result(POLLOUT | POLLWRNORM | POLLERR | POLLHUP))
        #expect(rig.reap(session)?.status == -ESHUTDOWN)
        let nothing = rig.kernel.ioctl(session, UsbfsRig.reapURBNoDelay, UsbfsRig.pointer)
        #expect(rig.kernel.outcome(nothing) == .error(ENODEV))
        #expect(rig.ioctl(session, UsbfsRig.getSpeed) == .error(ENODEV))
        #expect(throws: TestProblem.self) { try rig.open() }
        await rig.finish()
    }

    @Test("a claim is gone when its URBs have ended, or its taker is interrupted (U17)", arguments: [true, false])
    func slowlyTakenAway(endsByItself: Bool) async throws {
        let rig = try UsbfsRig(ScriptedBackend([.submit(.in(0x81, 512), .hold), .cancel(.ignore)]))
        let (owner, taker) = (try rig.open(), try rig.open())
        rig.submit(owner, TestUsbfsURB())
        rig.kernel.write(word(0) + word(0x5516) + UsbfsRig.long(0), at: UsbfsRig.argument)
        let call = rig.kernel.ioctl(taker, UsbfsRig.ioctl, UsbfsRig.argument)
        #expect(rig.kernel.outcome(call) == nil)
        #expect(rig.node.claimedInterfaces.isEmpty)
        if !endsByItself { owner.interrupted(call) }
        #expect((rig.kernel.outcome(call) == nil) == endsByItself)
        rig.backend.completeNext(.cancelled)
        #expect(rig.kernel.outcome(call) == .result(0))
        #expect(rig.reap(owner)?.status == -ESHUTDOWN)
        await rig.finish()
    }

    @Test("the device's end is told when the last URB has ended (U10, U11, U21)")
    func slowlyGone() async throws {
        let rig = try UsbfsRig(ScriptedBackend([.submit(.in(0x81, 512), .hold), .cancel(.ignore)]))
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        let reap = rig.kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer)
        let poller = FakePoller()
        rig.node.end()
        #expect(rig.poll(session, poller) == .result(0))
        #expect(rig.kernel.outcome(reap) == nil)
        let early = rig.kernel.ioctl(session, UsbfsRig.reapURBNoDelay, UsbfsRig.pointer)
        #expect(rig.kernel.outcome(early) == .error(EAGAIN))
        rig.backend.completeNext(.noDevice)
        #expect(poller.told.count >= 1)
        #expect(rig.kernel.outcome(reap) == .result(0))
        #expect(rig.poll(session) == .result(POLLERR | POLLHUP))
        let late = rig.kernel.ioctl(session, UsbfsRig.reapURB, UsbfsRig.pointer)
        #expect(rig.kernel.outcome(late) == .error(ENODEV))
        await rig.finish()
    }

    @Test("what is cancelled because the device goes is shut down, not discarded (U21)", arguments: [true, false])
    func drained(byDevice: Bool) async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        if byDevice { rig.device.cancelAll() } else { rig.node.end() }
        #expect(rig.reap(session)?.status == -ESHUTDOWN)
        await rig.finish()
    }

    @Test("an opener is a process, whichever of its threads has opened")
    func threads() async {
        #expect(CallingThread.process(of: 0) == 0)
        #expect(CallingThread.process(of: getpid()) == getpid())
        await Threads.run(1) { _ in
            // PID/task/TID
            var target = [CChar](repeating: 0, count: 64)
            let count = unsafe readlink("/proc/thread-self", &target, target.count)
            let text = String(decoding: target.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let thread = text.split(separator: "/").last.flatMap { Int32($0) }
            #expect(thread.map(CallingThread.process) == getpid())
            #expect(thread != getpid())
        }
        // None has so great a number.
        #expect(CallingThread.process(of: .max) == .max)
    }

    @Test("openers are told of when they come and go")
    func changes() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        #expect(rig.changes.count == 1)
        _ = rig.close(session)
        #expect(rig.changes.count == 2)
        await rig.finish()
    }
}
