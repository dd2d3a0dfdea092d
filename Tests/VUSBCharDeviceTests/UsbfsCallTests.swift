// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

@Suite("usbfs: calls")
struct UsbfsCallTests {
    /// `struct usbdevfs_ctrltransfer`.
    private func control(_ type: UInt8, _ request: UInt8, _ length: UInt16, index: UInt16 = 0) -> [UInt8] {
        [type, request, 0, 0] + DescriptorBytes.word(index) + DescriptorBytes.word(length) + UsbfsRig.word(50)
            + UsbfsRig.word(0) + UsbfsRig.long(UsbfsRig.buffer)
    }

    private func bulk(_ endpoint: UInt32, _ length: UInt32, timeout: UInt32 = 50) -> [UInt8] {
        UsbfsRig.word(endpoint) + UsbfsRig.word(length) + UsbfsRig.word(timeout) + UsbfsRig.word(0)
            + UsbfsRig.long(UsbfsRig.buffer)
    }

    private func begin(_ rig: UsbfsRig, _ session: UsbfsSession, _ number: UInt32, _ bytes: [UInt8]) -> UInt {
        rig.kernel.write(bytes, at: UsbfsRig.argument)
        return rig.kernel.ioctl(session, number, UsbfsRig.argument)
    }

    @Test("CONTROL answers with what was moved, when the device has")
    func controlTransfer() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let call = begin(rig, session, UsbfsRig.control, control(0xc0, 0x5c, 8))
        #expect(rig.kernel.outcome(call) == nil)
        rig.backend.completeNext(data: [1, 2, 3])
        #expect(rig.kernel.outcome(call) == .result(3))
        #expect(rig.kernel.read(UsbfsRig.buffer, 4) == [1, 2, 3, 0])
        let out = begin(rig, session, UsbfsRig.control, control(0x40, 0x5b, 3))
        #expect(rig.backend.held.first?.bytes == [1, 2, 3])
        rig.backend.completeNext()
        #expect(rig.kernel.outcome(out) == .result(3))
        let stalled = begin(rig, session, UsbfsRig.control, control(0xc0, 1, 8))
        rig.backend.completeNext(.stall)
        #expect(rig.kernel.outcome(stalled) == .error(EPIPE))
        await rig.finish()
    }

    @Test("BULK both ways, and what it can't do")
    func bulkTransfer() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let call = begin(rig, session, UsbfsRig.bulk, bulk(0x81, 512))
        rig.backend.completeNext(data: [6])
        #expect(rig.kernel.outcome(call) == .result(1))
        #expect(rig.ioctl(session, UsbfsRig.bulk, bulk(0x81, 126_977)) == .error(ENOMEM))
        #expect(rig.ioctl(session, UsbfsRig.bulk, bulk(0x8e, 1)) == .error(ENOENT))
        await rig.finish()
    }

    @Test("over its time: cancelled, ETIMEDOUT (U14); interrupted: EINTR (U13)")
    func ends() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        let late = begin(rig, session, UsbfsRig.bulk, bulk(0x81, 512))
        #expect(rig.kernel.outcome(late) == nil)
        rig.clock.advance()
        #expect(rig.kernel.outcome(late) == .error(ETIMEDOUT))
        let interrupted = begin(rig, session, UsbfsRig.bulk, bulk(0x81, 512, timeout: 0))
        rig.clock.advance()
        #expect(rig.kernel.outcome(interrupted) == nil)
        session.interrupted(interrupted)
        #expect(rig.kernel.outcome(interrupted) == .error(EINTR))
        await rig.finish()
    }

    @Test("SETINTERFACE cancels what is on the interface, and the new setting is in force then (U17)")
    func setInterface() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        let call = begin(rig, session, UsbfsRig.setInterface, UsbfsRig.word(0) + UsbfsRig.word(1))
        #expect(rig.reap(session)?.status == -ENOENT)
        rig.backend.completeNext()
        #expect(rig.kernel.outcome(call) == .result(0))
        #expect(rig.device.settings.alternates[InterfaceNumber(rawValue: 0)] == 1)
        #expect(rig.ioctl(session, UsbfsRig.setInterface, UsbfsRig.word(0) + UsbfsRig.word(9)) == .error(EINVAL))
        #expect(rig.ioctl(session, UsbfsRig.setInterface, UsbfsRig.word(5) + UsbfsRig.word(0)) == .error(ENOENT))
        await rig.finish()
    }

    @Test("SETCONFIGURATION is refused while an interface is claimed, or for one that isn't there")
    func setConfiguration() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.ioctl(session, UsbfsRig.claimInterface, UsbfsRig.word(0))
        #expect(rig.ioctl(session, UsbfsRig.setConfiguration, UsbfsRig.word(1)) == .error(EBUSY))
        rig.ioctl(session, UsbfsRig.releaseInterface, UsbfsRig.word(0))
        #expect(rig.ioctl(session, UsbfsRig.setConfiguration, UsbfsRig.word(7)) == .error(EINVAL))
        let call = begin(rig, session, UsbfsRig.setConfiguration, UsbfsRig.word(.max))
        rig.backend.completeNext()
        #expect(rig.kernel.outcome(call) == .result(0))
        #expect(rig.ioctl(session, UsbfsRig.bulk, bulk(0x81, 512)) == .error(ESRCH))
        #expect(rig.ioctl(session, UsbfsRig.setInterface, UsbfsRig.word(0) + UsbfsRig.word(0)) == .error(EHOSTUNREACH))
        await rig.finish()
    }

    @Test("CLEAR_HALT and RESETEP reach the device as one thing")
    func clearHalt() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        for number in [UsbfsRig.clearHalt, UsbfsRig.resetEndpoint] {
            let call = begin(rig, session, number, UsbfsRig.word(0x81))
            #expect(rig.backend.held.first?.operation == .clearHalt(EndpointAddress(rawValue: 0x81)))
            rig.backend.completeNext()
            #expect(rig.kernel.outcome(call) == .result(0))
        }
        await rig.finish()
    }

    @Test("RESET ends URBs with ESHUTDOWN, and claims with them (U18)")
    func reset() async throws {
        let rig = try UsbfsRig(ScriptedBackend([.submit(.in(0x81, 512), .hold), .cancel(.ignore), .reset(nil)]))
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB())
        let call = rig.kernel.ioctl(session, UsbfsRig.reset, 0)
        await rig.kernel.ended.wait(for: 3)
        #expect(rig.kernel.outcome(call) == .result(0))
        #expect(rig.reap(session)?.status == -ESHUTDOWN)
        #expect(rig.node.claimedInterfaces.isEmpty)
        await rig.finish()
    }

    @Test("quiet: what would begin something waits, and begins anew afterwards (U20)")
    func quiet() async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.submit(session, TestUsbfsURB(), at: 0)
        rig.node.quiet()
        rig.backend.completeNext(data: [1])
        #expect(rig.reap(session)?.actualLength == 1)
        rig.kernel.write(TestUsbfsURB().bytes, at: UsbfsRig.urb(1))
        let submit = rig.kernel.ioctl(session, UsbfsRig.submitURB, UsbfsRig.urb(1))
        let call = begin(rig, session, UsbfsRig.control, control(0xc0, 0x5c, 8))
        let interrupted = begin(rig, session, UsbfsRig.control, control(0xc0, 0x5c, 8))
        #expect(rig.kernel.outcome(submit) == nil && rig.kernel.outcome(call) == nil)
        session.interrupted(interrupted)
        #expect(rig.kernel.outcome(interrupted) == .error(EINTR))
        #expect(rig.device.inFlight == 0)
        #expect(rig.ioctl(session, UsbfsRig.getSpeed) == .result(3))
        rig.node.resume()
        #expect(rig.kernel.outcome(submit) == .result(0))
        #expect(rig.backend.held.count == 2)
        await rig.finish()
    }
}
