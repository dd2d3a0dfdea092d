// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

/// The watch is shown URBs on the threads of fronts and sources, and asked on that of the control plane.
@Suite("StorageWatch.md: threads", .timeLimit(.minutes(2)))
struct StorageRaceTests {
    private static let threads = 3
    private static let rounds = 300

    @Test("S40: commands from several threads, statuses on others, resets, and somebody who asks")
    func threads() async throws {
        let rig = try StorageRig(descriptors: StorageRig.attachedSCSIBytes)
        try rig.control(.setInterface(0, alternate: 1))
        let writers = Atomic<Int>(Self.threads)
        await Threads.run(Self.threads + 2) { index in
            switch index {
            case 0:
                // Completes what the others submit: OUT URBs as sent, IN URBs as the status of their stream.
                while writers.load(ordering: .relaxed) > 0 || !rig.backend.held.isEmpty {
                    for urb in rig.backend.held {
                        urb.complete(data: urb.requestedLength == 112 ? StorageRig.senseUnit(1) : [])
                    }
                    Threads.yield()
                }
            case 1:
                while writers.load(ordering: .relaxed) > 0 {
                    _ = rig.device.storage?.reason(at: .now)
                    rig.device.submit(
                        TestURB.control(.setInterface(0, alternate: 1), pool: rig.pool, handler: rig.handler))
                    Threads.yield()
                }
            default:
                for _ in 0..<Self.rounds { write(rig, UInt16(index)) }
                writers.subtract(1, ordering: .relaxed)
            }
        }
        // Each was ended once: by its status, by a tag used anew, by a reset; the last ones by this.
        try await rig.device.reset()
        #expect(rig.device.storage?.units.count == 1)
        #expect(rig.dirtyBytes == UInt64(Self.threads * Self.rounds * 512))
        await rig.end()
    }

    private func write(_ rig: StorageRig, _ tag: UInt16) {
        let command = StorageRig.commandUnit(tag, Block.write10(1))
        rig.device.submit(
            TestURB.out(EndpointAddress(rawValue: 0x04), command, pool: rig.pool, handler: rig.handler))
        rig.device.submit(
            TestURB.in(EndpointAddress(rawValue: 0x83), count: 112, pool: rig.pool, handler: rig.handler))
    }
}
