// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: frames cut anywhere")
struct USBIPSplitTests {
    /// All kinds of frames, one behind the other.
    private static let commands: [UInt8] = {
        let wire = USBIPWire()
        let write = SetupPacket(bmRequestType: 0x40, bRequest: 8, wValue: 0, wIndex: 0, wLength: 5)
        return wire.control(1, .getDeviceDescriptor(4)) + wire.control(2, write, usbipPattern(5))
            + wire.bulkOut(3, usbipPattern(70)) + wire.bulkIn(4, 100)
            + wire.isochronousOut(5, [8, 8], usbipPattern(16))
            + wire.isochronousIn(6, [16, 16, 16]) + wire.unlink(7, 3)
            + wire.submit(8, endpoint: 77, isIn: false, length: 9)
            + usbipPattern(9) + wire.bulkOut(9, []) + wire.unlink(10, 10)
    }()

    private static let incoming: [UInt32] = [1, 4, 6]

    private func heard(_ send: (USBIPPeer) -> Void) async throws -> ([USBIPHeard], [[UInt8]]) {
        let rig = try USBIPRig(
            ScriptedBackend(
                always: .run { urb in
                    if urb.endpoint.number == 3 || urb.endpoint.number == 4 {
                        urb.completePackets(fill: 7)
                    } else {
                        urb.complete(data: urb.bytes.isEmpty ? [1, 2, 3] : [])
                    }
                }))
        let peer = try await rig.connect()
        for seqnum in Self.incoming { peer.expectData(seqnum) }
        send(peer)
        let heard = await peer.next(10)
        let bytes = rig.backend.calls.elements.map { call in
            if case .submit(_, let submit) = call { submit.bytes ?? [] } else { [UInt8]() }
        }
        await rig.finish(peer)
        return (heard, bytes)
    }

    @Test("in two pieces, wherever the cut is, and in many of one size")
    func anywhere() async throws {
        let (whole, bytes) = try await heard { $0.send(Self.commands) }
        #expect(whole.count == 10 && bytes.count == 7)
        for cut in 1..<Self.commands.count {
            let (split, sent) = try await heard { peer in
                peer.send(Array(Self.commands.prefix(cut)))
                peer.send(Array(Self.commands.dropFirst(cut)))
            }
            #expect(split == whole && sent == bytes, "cut at \(cut)")
        }
        for pieces in [1, 2, 3, 5, 11, 16, 47, 48, 49] {
            let (split, sent) = try await heard { $0.send(Self.commands, pieces: pieces) }
            #expect(split == whole && sent == bytes, "pieces of \(pieces)")
        }
    }
}
