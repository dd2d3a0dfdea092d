// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

@Suite("usbfs: races")
struct UsbfsRaceTests {
    private static let urbs = 400

    /// Ends, reaps, discards and signals race; each URB is reaped exactly once.
    @Test("many threads at one opener lose no URB and get none twice", arguments: [0x81, 0x02] as [UInt8])
    func everything(_ endpoint: UInt8) async throws {
        let rig = try UsbfsRig()
        let session = try rig.open()
        rig.ioctl(session, UsbfsRig.claimInterface, UsbfsRig.word(0))
        let reaped = Atomic(0)
        let accepted = Atomic(0)
        let submitters = Atomic(2)
        await Threads.run(6) { number in
            switch number {
            case 0, 1:
                for index in 0..<Self.urbs {
                    // A chain, a piece of one that is cut off, and plain ones.
                    let flags = [0, UsbfsRig.shortNotOK, UsbfsRig.continuation, 0][index % 4]
                    let slot = number * 16 + index % 16
                    if rig.submit(session, TestUsbfsURB(endpoint: endpoint, flags: flags), at: slot) == .result(0) {
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
                    if !rig.backend.completeNext(data: [1]) { Threads.yield() }
                    rig.clock.advance()
                }
            default:
                for index in 0..<Self.urbs {
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
