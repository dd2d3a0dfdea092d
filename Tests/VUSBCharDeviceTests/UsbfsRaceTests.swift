// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

@Suite("usbfs: races")
struct UsbfsRaceTests {
    /// More than two rounds carry.
    private static let long = UInt32(2 * UsbfsABI.dataLimit + 5)

    /// Ends, reaps, discards and signals race; each URB is reaped exactly once.
    @Test(
        "many threads at one opener lose no URB and get none twice",
        arguments: [(0x81, 512, 400), (0x02, 512, 400), (0x81, long, 60), (0x02, long, 60)] as [(UInt8, UInt32, Int)])
    func everything(_ endpoint: UInt8, _ length: UInt32, _ count: Int) async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.ioctl(session, UsbfsRig.claimInterface, UsbfsRig.word(0))
        let reaped = Atomic(0)
        let accepted = Atomic(0)
        let submitters = Atomic(2)
        let data = Array(repeating: UInt8(1), count: endpoint == 0x81 && length > 512 ? Int(length) : 1)
        await Threads.run(6) { number in
            switch number {
            case 0, 1:
                for index in 0..<count {
                    // A chain, a piece of one that is cut off, and plain ones.
                    let flags = [0, UsbfsRig.shortNotOK, UsbfsRig.continuation, 0][index % 4]
                    let slot = number * 16 + index % 16
                    let urb = TestUsbfsURB(endpoint: endpoint, flags: flags, length: length)
                    if rig.submit(session, urb, at: slot, caller: Int32(number)) == .result(0) {
                        accepted.add(1, ordering: .relaxed)
                    }
                }
                submitters.subtract(1, ordering: .releasing)
            case 2, 3:
                let pointer = UsbfsRig.pointer + UInt64(number) * 64
                while submitters.load(ordering: .acquiring) > 0
                    || reaped.load(ordering: .relaxed) < accepted.load(ordering: .relaxed)
                {
                    let reap = rig.kernel.ioctl(session, UsbfsRig.reapURBNoDelay, pointer, caller: Int32(number))
                    if rig.kernel.outcome(reap) == .result(0) {
                        reaped.add(1, ordering: .relaxed)
                    } else {
                        Threads.yield()
                    }
                }
            case 4:
                while submitters.load(ordering: .acquiring) > 0
                    || reaped.load(ordering: .relaxed) < accepted.load(ordering: .relaxed)
                {
                    if !rig.backend.completeNext(data: data) { Threads.yield() }
                    rig.clock.advance()
                }
            default:
                for index in 0..<count {
                    let discard = rig.kernel.ioctl(session, UsbfsRig.discardURB, UsbfsRig.urb(index % 32))
                    session.interrupted(discard)
                    _ = rig.poll(session)
                }
            }
        }
        #expect(reaped.load(ordering: .relaxed) == accepted.load(ordering: .relaxed))
        #expect(rig.reap(session) == nil)
        await rig.finish()
    }
}
