// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// The rows are those of Channel.md.
@Suite("URBs over the channel")
struct HCDURBTests {
    /// A guest with one device, handle 1, whose backend is `backend`.
    struct Rig {
        let tree: TreeRig
        let device: VirtualDevice
        let guest: HCDGuest
        let backend: ScriptedBackend

        init(_ backend: ScriptedBackend) throws {
            tree = try TreeRig()
            self.backend = backend
            device = tree.attach(to: "web1", backend: backend)
            guest = try HCDGuest(tree.tree)
        }

        /// Nothing is held for anybody.
        func verifyNothingLeft() {
            #expect(device.inFlight == 0)
            #expect(device.pool.outstanding == 0)
            #expect(guest.session.status.urbsInFlight == 0)
            #expect(backend.verify() == [])
        }
    }

    @Test("an OUT transfer's data reach the device, its completion the guest")
    func out() throws {
        let rig = try Rig(ScriptedBackend([.submit(.out(0x02, [1, 2, 3]), .complete())]))
        #expect(rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(3), [1, 2, 3])) == 0)
        let answers = rig.guest.receive()
        #expect(answers.map(\.kind) == [.complete])
        #expect(answers.first?.record.id == HCDBytes.id(3))
        #expect(answers.first?.record.device == 1)
        #expect(answers.first?.record.complete == HCDRecord.Complete(status: 0, actualLength: 3))
        #expect(answers.first?.payload == [])
        rig.verifyNothingLeft()
    }

    @Test("an IN transfer's data are what came, not what was asked for", arguments: [0, 1, 511, 512, 513, 4096])
    func shortIn(count: Int) throws {
        let data = HCDBytes.pattern(count)
        let rig = try Rig(ScriptedBackend([.submit(.in(0x81, 4096), .complete(data: data))]))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 4096))
        let answers = rig.guest.receive()
        #expect(answers.map(\.payload) == [data])
        #expect(answers.first?.record.complete.actualLength == UInt32(count))
        rig.verifyNothingLeft()
    }

    @Test("a control transfer is the setup packet's, whatever the endpoint's direction bit", arguments: [0x00, 0x80])
    func control(endpoint: UInt8) throws {
        let setup = SetupPacket(bmRequestType: 0x80, bRequest: 6, wValue: 0x0100, wIndex: 0, wLength: 18)
        let rig = try Rig(ScriptedBackend([.submit(.control(setup), .complete(data: HCDBytes.pattern(18)))]))
        let submit = HCDBytes.submit(HCDBytes.id(1), endpoint: endpoint, transfer: 0, length: 18) { $0.setup = setup }
        rig.guest.send(submit)
        #expect(rig.guest.receive().map(\.payload) == [HCDBytes.pattern(18)])
        rig.verifyNothingLeft()
    }

    @Test("standard requests that the host must know of are intercepted, as on every front")
    func intercepted() throws {
        let rig = try Rig(
            ScriptedBackend([
                .submit(.operation(.setInterface(InterfaceNumber(rawValue: 0), alternate: 1)), .complete())
            ]))
        let setup = SetupPacket(bmRequestType: 1, bRequest: 11, wValue: 1, wIndex: 0, wLength: 0)
        rig.guest.send(HCDBytes.control(HCDBytes.id(1), setup))
        #expect(rig.guest.receive().map(\.status) == [0])
        #expect(rig.device.endpoint(EndpointAddress(rawValue: 0x83)) != nil)
        rig.verifyNothingLeft()
    }

    @Test("flags and stream are passed on: a short transfer that must not be is EREMOTEIO")
    func flags() throws {
        let rig = try Rig(ScriptedBackend([.submit(.in(0x81, 512), .complete(data: [1]))]))
        rig.guest.send(HCDBytes.submit(HCDBytes.id(0), endpoint: 0x81, length: 512) { $0.flags = 1 })
        let answer = rig.guest.receive().first
        #expect(answer?.status == -121)
        #expect(answer?.payload == [1])
        rig.verifyNothingLeft()
    }

    @Test("row C15: what the device doesn't have completes with the status that every front gets")
    func noSuchEndpoint() throws {
        let rig = try Rig(ScriptedBackend([]))
        rig.guest.send(HCDBytes.submit(HCDBytes.id(0), endpoint: 0x8f, length: 8))
        rig.guest.send(HCDBytes.submit(HCDBytes.id(1), endpoint: 0x00, length: 0))
        rig.guest.send(HCDBytes.submit(HCDBytes.id(2), endpoint: 0x02, transfer: 0, length: 0))
        let setup = SetupPacket(bmRequestType: 0x80, bRequest: 6, wValue: 0x0100, wIndex: 0, wLength: 18)
        rig.guest.send(
            HCDBytes.submit(HCDBytes.id(3), endpoint: 0, transfer: 0, length: 17) { $0.setup = setup })
        #expect(rig.guest.receive().map(\.status) == [-2, -22, -22, -22])
        rig.verifyNothingLeft()
    }

    @Test("a URB that the device refuses while it drains looks like an error of the wire, not like a busy host")
    func draining() throws {
        let rig = try Rig(ScriptedBackend([]))
        rig.device.stopAdmitting()
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 512))
        #expect(rig.guest.receive().map(\.status) == [URBStatus.protocolError.rawValue])
        rig.verifyNothingLeft()
    }

    // MARK: - Cancel

    @Test("row C1: a cancel of a URB in flight ends it with ECONNRESET")
    func cancel() throws {
        let rig = try Rig(ScriptedBackend([.submit(.in(0x81, 512), .hold), .cancel(.completeAsCancelled)]))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(7), 512))
        #expect(rig.guest.receive() == [])
        #expect(rig.guest.send(.cancel, device: 1, id: HCDBytes.id(7)) == 0)
        #expect(rig.guest.receive().map(\.status) == [-104])
        rig.verifyNothingLeft()
    }

    @Test("row C1: a cancel that comes too late leaves what was achieved")
    func lateCancel() throws {
        let rig = try Rig(ScriptedBackend([.submit(.in(0x81, 512), .hold), .cancel(.ignore)]))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(7), 512))
        rig.guest.send(.cancel, device: 1, id: HCDBytes.id(7))
        rig.backend.completeNext(data: [9, 9])
        let answers = rig.guest.receive()
        #expect(answers.map(\.status) == [0])
        #expect(answers.map(\.payload) == [[9, 9]])
        rig.verifyNothingLeft()
    }

    @Test("row C1: a cancel from inside the backend's submit is passed on when that has returned")
    func cancelWhileSubmitting() throws {
        // Another thread's cancel can't come in between: writes are one at a time. An end of the session can.
        let backend = ScriptedBackend(always: .hold)
        let rig = try Rig(backend)
        rig.guest.send(
            HCDBytes.bulkIn(HCDBytes.id(1), 64) + HCDBytes.record(HCDRecord(.cancel, device: 1, id: HCDBytes.id(1))))
        #expect(rig.guest.receive().map(\.status) == [-104])
        rig.verifyNothingLeft()
    }

    @Test("row C2: a cancel of one that is finished, or of another generation, is ignored")
    func cancelFinished() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .complete(data: [5])), .submit(.any, .hold)]))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(7), 8))
        // Finished and not read; then read; then the slot is another's.
        #expect(rig.guest.send(.cancel, device: 1, id: HCDBytes.id(7)) == 0)
        #expect(rig.guest.receive().map(\.payload) == [[5]])
        #expect(rig.guest.send(.cancel, device: 1, id: HCDBytes.id(7)) == 0)
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(7, 2), 8))
        #expect(rig.guest.send(.cancel, device: 1, id: HCDBytes.id(7)) == 0)
        #expect(rig.backend.held.count == 1)
        rig.backend.completeNext(data: [6])
        #expect(rig.guest.receive().map(\.payload) == [[6]])
        rig.verifyNothingLeft()
    }

    // MARK: - Isochronous

    @Test("isochronous OUT: the table reaches the device, its results the guest")
    func isochronousOut() throws {
        let backend = ScriptedBackend(always: .hold)
        let rig = try Rig(backend)
        try chooseAlternate(1, rig)
        rig.guest.send(
            HCDBytes.isochronous(HCDBytes.id(2), endpoint: 0x04, lengths: [3, 0, 5], data: HCDBytes.pattern(8)))
        #expect(backend.held.map(\.bytes) == [HCDBytes.pattern(8)])
        backend.held.first?.completePackets()
        let answer = rig.guest.receive().first
        let complete = HCDRecord.Complete(status: 0, actualLength: 8, packets: 3)
        #expect(answer?.record.complete == complete)
        let word = HCDBytes.word
        let table = word(3) + word(3) + word(0) + word(0) + word(0) + word(0) + word(5) + word(5) + word(0)
        #expect(answer?.payload == table)
        rig.verifyNothingLeft()
    }

    @Test("isochronous IN: data come without the gaps of packets that were short or failed")
    func isochronousIn() throws {
        let backend = ScriptedBackend(
            always: .run { held in
                held.completeIsochronous([(2, 0), (0, -71), (4, 0)], errorCount: 1, startFrame: 77)
            })
        let rig = try Rig(backend)
        try chooseAlternate(1, rig)
        rig.guest.send(HCDBytes.isochronous(HCDBytes.id(2), endpoint: 0x83, lengths: [4, 4, 4]))
        let answer = rig.guest.receive().first
        let complete = HCDRecord.Complete(status: 0, actualLength: 6, startFrame: 77, packets: 3, errorCount: 1)
        #expect(answer?.record.complete == complete)
        let word = HCDBytes.word
        let table =
            word(4) + word(2) + word(0) + word(4) + word(0) + word(UInt32(bitPattern: -71)) + word(4) + word(4)
            + word(0)
        // Packet i's bytes are 16 * i + their position.
        #expect(answer?.payload == table + [0x00, 0x01, 0x20, 0x21, 0x22, 0x23])
        rig.verifyNothingLeft()
    }

    private func chooseAlternate(_ alternate: UInt16, _ rig: Rig) throws {
        let setup = SetupPacket(bmRequestType: 1, bRequest: 11, wValue: alternate, wIndex: 0, wLength: 0)
        rig.guest.send(HCDBytes.control(HCDBytes.id(1023), setup))
        rig.backend.held.first?.complete()
        _ = rig.guest.receive()
    }
}
