// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Devices come and go, are held and reset. The rows are those of Channel.md.
@Suite("Devices over the channel")
struct HCDDeviceTests {
    typealias Rig = HCDURBTests.Rig

    @Test("those that were there come with the hello, those attached later when they are")
    func added() throws {
        let tree = try TreeRig()
        tree.attach(path: "1-1")
        tree.attach(path: "1-2", device: 2)
        let guest = try HCDGuest(tree.tree, isGreeted: false)
        #expect(guest.receive() == [])
        guest.send(HCDBytes.hello())
        let first = guest.receive()
        #expect(first.map(\.kind) == [.hello, .added, .added])
        #expect(first.dropFirst().map(\.record.device) == [1, 2])
        #expect(first.dropFirst().map(\.record.addedPort) == [1, 2])
        #expect(first.dropFirst().map(\.record.addedSpeed) == [3, 3])
        tree.attach(path: "1-5", device: 5)
        let later = guest.receive()
        #expect(later.map(\.kind) == [.added])
        #expect(later.first?.record.device == 3)
        #expect(later.first?.record.addedPort == 5)
    }

    @Test("before the hello nothing is said, and what is unplugged by then is never spoken of")
    func beforeHello() throws {
        let tree = try TreeRig()
        tree.attach(path: "1-1")
        let guest = try HCDGuest(tree.tree, isGreeted: false)
        tree.tree.detach(path: "1-1", from: "web1")
        tree.attach(path: "1-2", device: 2)
        guest.send(HCDBytes.hello())
        #expect(guest.receive().map(\.kind) == [.hello, .added])
    }

    @Test("row C6: an unplug in flight is told at once, then each URB ends with ENODEV")
    func unplug() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        for slot in 0..<3 { rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(slot), 8)) }
        rig.tree.tree.detach(path: "1-1", from: "web1")
        rig.device.disconnect()
        let answers = rig.guest.receive()
        #expect(answers.first?.kind == .remove)
        #expect(answers.first?.record.removal == 1)
        #expect(answers.dropFirst().map(\.kind) == [.complete, .complete, .complete])
        #expect(answers.dropFirst().map(\.status) == [-19, -19, -19])
        #expect(rig.guest.send(.removed, device: 1) == 0)
        await rig.device.close()
        rig.verifyNothingLeft()
    }

    @Test("row C5: a submit for a device that is gone at the host ends with ENODEV, whatever its kind")
    func submitAfterRemoval() throws {
        let rig = try Rig(ScriptedBackend([]))
        rig.tree.tree.detach(path: "1-1", from: "web1")
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 8))
        rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(1), HCDBytes.pattern(100)))
        rig.guest.send(HCDBytes.isochronous(HCDBytes.id(2), endpoint: 0x04, lengths: [1, 2], data: [1, 2, 3]))
        let answers = rig.guest.receive().dropFirst()
        #expect(answers.map(\.status) == [-19, -19, -19])
        #expect(answers.map(\.record.complete.packets) == [0, 0, 2])
        #expect(answers.map(\.payload.count) == [0, 0, 24])
        #expect(rig.guest.send(.removed, device: 1) == 0)
        rig.verifyNothingLeft()
    }

    @Test("row C5: so does one whose record was still coming in at the removal")
    func removalWithinRecord() throws {
        let rig = try Rig(ScriptedBackend([]))
        let bytes = HCDBytes.bulkOut(HCDBytes.id(1), HCDBytes.pattern(100))
        rig.guest.send(Array(bytes[..<90]))
        rig.tree.tree.detach(path: "1-1", from: "web1")
        rig.guest.send(Array(bytes[90...]))
        #expect(rig.guest.receive().map(\.kind) == [.remove, .complete])
        rig.verifyNothingLeft()
    }

    @Test("a handle is never used twice")
    func handles() throws {
        let rig = try Rig(ScriptedBackend([]))
        for expected in 2...5 as ClosedRange<UInt16> {
            rig.tree.tree.detach(path: "1-1", from: "web1")
            rig.guest.send(.removed, device: expected - 1)
            rig.tree.attach()
            #expect(rig.guest.receive().last?.record.device == expected)
        }
    }

    // MARK: - Withdraw

    @Test("an orderly withdrawal waits for the guest, whose drivers may finish; a detach afterwards says nothing more")
    func withdraw() async throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .complete())]))
        let tree = rig.tree.tree
        async let hasLetGo = tree.withdraw(path: "1-1", from: "web1", orderly: true, for: .seconds(60))
        let told = await rig.guest.receive(count: 1)
        #expect(told.map(\.kind) == [.remove])
        #expect(told.first?.record.removal == 0)
        rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(0), [1]))
        #expect(rig.guest.receive().map(\.status) == [0])
        rig.guest.send(.removed, device: 1)
        #expect(await hasLetGo)
        rig.tree.tree.detach(path: "1-1", from: "web1")
        #expect(rig.guest.receive() == [])
        rig.verifyNothingLeft()
    }

    @Test("a withdrawal that isn't orderly cancels what is in flight")
    func withdrawNow() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 8))
        let tree = rig.tree.tree
        async let hasLetGo = tree.withdraw(path: "1-1", from: "web1", orderly: false, for: .seconds(60))
        let told = await rig.guest.receive(count: 2)
        #expect(told.map(\.kind) == [.remove, .complete])
        #expect(told.map(\.record.removal).first == 1)
        #expect(told.last?.status == -19)
        rig.guest.send(.removed, device: 1)
        #expect(await hasLetGo)
        rig.verifyNothingLeft()
    }

    @Test("a guest that doesn't answer in time keeps the device; a harder removal can follow")
    func withdrawTwice() async throws {
        let rig = try Rig(ScriptedBackend([]))
        #expect(await !rig.tree.tree.withdraw(path: "1-1", from: "web1", orderly: true, for: .zero))
        #expect(await !rig.tree.tree.withdraw(path: "1-1", from: "web1", orderly: true, for: .zero))
        #expect(await !rig.tree.tree.withdraw(path: "1-1", from: "web1", orderly: false, for: .zero))
        let told = rig.guest.receive()
        #expect(told.map(\.kind) == [.remove, .remove])
        #expect(told.map(\.record.removal) == [0, 1])
    }

    @Test("a device that is let go of when nobody takes it away any more comes anew")
    func withdrawnLate() async throws {
        let rig = try Rig(ScriptedBackend([]))
        #expect(await !rig.tree.tree.withdraw(path: "1-1", from: "web1", orderly: true, for: .zero))
        rig.guest.send(.removed, device: 1)
        let told = rig.guest.receive()
        #expect(told.map(\.kind) == [.remove, .added])
        #expect(told.last?.record.device == 2)
    }

    @Test("one that was withdrawn isn't added for the next opener")
    func withdrawnStays() async throws {
        let rig = try Rig(ScriptedBackend([]))
        let tree = rig.tree.tree
        async let hasLetGo = tree.withdraw(path: "1-1", from: "web1", orderly: true, for: .seconds(60))
        _ = await rig.guest.receive(count: 1)
        rig.guest.close()
        #expect(await hasLetGo)
        let next = try HCDGuest(rig.tree.tree, isGreeted: false)
        next.send(HCDBytes.hello())
        #expect(next.receive().map(\.kind) == [.hello])
    }

    @Test("where nobody has the channel open there is nobody to wait for")
    func nobody() async throws {
        let tree = try TreeRig()
        tree.attach()
        #expect(await tree.tree.withdraw(path: "1-1", from: "web1", orderly: true, for: .seconds(60)))
        tree.tree.openChannel(of: "web1")
        #expect(await tree.tree.withdraw(path: "1-1", from: "web1", orderly: true, for: .seconds(60)))
        #expect(await tree.tree.quiesce(path: nil, of: "web1", for: .seconds(60)))
        #expect(await tree.tree.quiesce(path: "9-9", of: "web1", for: .seconds(60)))
    }

    // MARK: - Quiesce

    @Test("a quiesce is answered, and a submit after it breaks the rules", arguments: [nil, "1-1"])
    func quiesce(path: String?) async throws {
        let rig = try Rig(ScriptedBackend(always: .complete()))
        let tree = rig.tree.tree
        async let isQuiet = tree.quiesce(path: path, of: "web1", for: .seconds(60))
        let asked = await rig.guest.receive(count: 1)
        #expect(asked.map(\.kind) == [.quiesce])
        let handle: UInt16 = path == nil ? 0 : 1
        #expect(asked.first?.record.device == handle)
        // Until its answer it may still submit.
        #expect(rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(0), [1])) == 0)
        rig.guest.send(.quiesced, device: handle, id: asked.first?.record.id ?? 0)
        #expect(await isQuiet)
        #expect(rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(1), [1])) == 71)
    }

    @Test("a resume lets it go on, at once", arguments: [nil, "1-1"])
    func resume(path: String?) async throws {
        let rig = try Rig(ScriptedBackend(always: .complete()))
        let tree = rig.tree.tree
        async let isQuiet = tree.quiesce(path: path, of: "web1", for: .seconds(60))
        let asked = await rig.guest.receive(count: 1)
        let handle: UInt16 = path == nil ? 0 : 1
        rig.guest.send(.quiesced, device: handle, id: asked.first?.record.id ?? 0)
        #expect(await isQuiet)
        rig.tree.tree.resume(path: path, of: "web1")
        #expect(rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(1), [1])) == 0)
        let told = rig.guest.receive()
        #expect(told.map(\.kind) == [.resume, .complete])
        #expect(rig.guest.send(.resumed, device: handle, id: told.first?.record.id ?? 0) == 0)
        rig.verifyNothingLeft()
    }

    @Test("an answer that comes after the resume doesn't make it quiet again")
    func lateAnswer() async throws {
        let rig = try Rig(ScriptedBackend(always: .complete()))
        #expect(await !rig.tree.tree.quiesce(path: "1-1", of: "web1", for: .zero))
        let id = rig.guest.receive().first?.record.id ?? 0
        rig.tree.tree.resume(path: "1-1", of: "web1")
        #expect(rig.guest.send(.quiesced, device: 1, id: id) == 0)
        #expect(rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(0), [1])) == 0)
        _ = rig.guest.receive()
        rig.verifyNothingLeft()
    }

    @Test("a removal ends a quiesce: the drivers may finish")
    func removalEndsQuiesce() async throws {
        let rig = try Rig(ScriptedBackend(always: .complete()))
        let tree = rig.tree.tree
        async let isQuiet = tree.quiesce(path: "1-1", of: "web1", for: .seconds(60))
        let asked = await rig.guest.receive(count: 1)
        rig.guest.send(.quiesced, device: 1, id: asked.first?.record.id ?? 0)
        #expect(await isQuiet)
        #expect(await !rig.tree.tree.withdraw(path: "1-1", from: "web1", orderly: true, for: .zero))
        #expect(rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(0), [1])) == 0)
        #expect(rig.guest.receive().map(\.kind) == [.remove, .complete])
        rig.verifyNothingLeft()
    }

    // MARK: - Reset

    @Test("row C10: a reset ends what is in flight with ESHUTDOWN, and is done after that")
    func reset() async throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold), .submit(.any, .hold), .reset(nil)]))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 8))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(1), 8))
        #expect(rig.guest.send(.reset, device: 1, id: 55) == 0)
        let answers = await rig.guest.receive(count: 3)
        #expect(answers.map(\.kind) == [.complete, .complete, .resetDone])
        #expect(answers.map(\.record.id) == [HCDBytes.id(0), HCDBytes.id(1), 55])
        #expect(answers.prefix(2).map(\.status) == [-108, -108])
        #expect(answers.last?.record.resultStatus == 0)
        rig.verifyNothingLeft()
    }

    @Test("a submit during a reset ends with ESHUTDOWN")
    func submitDuringReset() async throws {
        let gate = Gate()
        let rig = try Rig(ScriptedBackend([]))
        let slow = SampleDevice.attach(SlowReset(gate), descriptors: rig.tree.record.descriptors)
        rig.guest.channel.attach(path: "1-2", slow)
        _ = rig.guest.receive()
        rig.guest.send(.reset, device: 2, id: 1)
        // The reset begins on another thread.
        while slow.admission == .admitting { await Task.yield() }
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 8, device: 2))
        #expect(rig.guest.receive().map(\.status) == [-108])
        gate.open()
        let done = await rig.guest.receive(count: 1)
        #expect(done.map(\.kind) == [.resetDone])
        // And once more, now that it's done.
        #expect(rig.guest.send(.reset, device: 2, id: 2) == 0)
        #expect(await rig.guest.receive(count: 1).map(\.record.id) == [2])
        await slow.close()
    }

    @Test("a device that doesn't come back from a reset is ENODEV; one that is removed too")
    func resetGone() async throws {
        let rig = try Rig(ScriptedBackend([.reset(USBError(.gone, "another device"))]))
        rig.guest.send(.reset, device: 1, id: 1)
        let answers = await rig.guest.receive(count: 1)
        #expect(answers.map(\.record.resultStatus) == [-19])
        rig.tree.tree.detach(path: "1-1", from: "web1")
        rig.guest.send(.reset, device: 1, id: 2)
        let more = await rig.guest.receive(count: 2)
        #expect(more.map(\.kind) == [.remove, .resetDone])
        #expect(more.last?.record.resultStatus == -19)
    }
}
