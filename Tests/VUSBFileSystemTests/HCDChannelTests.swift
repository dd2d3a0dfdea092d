// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Opening, closing and what the control plane hears. The rows are those of Channel.md.
@Suite("The channel's life")
struct HCDChannelTests {
    typealias Rig = HCDURBTests.Rig

    @Test("its file is there between openChannel and closeChannel, with the guest's permissions")
    func file() throws {
        let tree = try TreeRig()
        #expect(tree.names("guests/web1") == ["state", "events"])
        #expect(tree.tree.channelStatus(of: "web1") == nil)
        tree.tree.openChannel(of: "web1")
        #expect(tree.names("guests/web1") == ["state", "events", "hcd"])
        let node = try #require(tree.node("guests/web1/hcd"))
        #expect(tree.tree.isChannel(node, uid: 1000, gid: 1001, permissions: 0o640, size: 524_288))
        #expect(tree.tree.channelStatus(of: "web1") == HCDChannelStatus(state: .closed))
        tree.tree.closeChannel(of: "web1")
        #expect(tree.names("guests/web1") == ["state", "events"])
        #expect(tree.tree.channel(of: node) == nil)
    }

    @Test("one opener at a time; the next one when that has closed")
    func exclusive() throws {
        let tree = try TreeRig()
        let guest = try HCDGuest(tree.tree, isGreeted: false)
        #expect(guest.channel.open() == nil)
        guest.close()
        #expect(guest.channel.open() != nil)
        #expect(tree.tree.channelStatus(of: "web1")?.openCount == 2)
    }

    @Test("row C7: a close with URBs in flight cancels them, and their buffers go back")
    func closeInFlight() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        for slot in 0..<4 { rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(slot), 64)) }
        rig.guest.send(HCDBytes.bulkOut(HCDBytes.id(4), HCDBytes.pattern(64)))
        #expect(rig.device.inFlight == 5)
        rig.guest.close()
        rig.verifyNothingLeft()
        #expect(rig.guest.readFailure() == 19)
        #expect(rig.guest.send(HCDBytes.hello()) == 19)
    }

    @Test("row C7: what is finished and wasn't read, or was read in part, goes back too")
    func closeUnread() throws {
        let rig = try Rig(ScriptedBackend(always: .complete(data: HCDBytes.pattern(4096))))
        for slot in 0..<4 { rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(slot), 4096)) }
        #expect(rig.guest.read(5000)?.count == 5000)
        #expect(rig.device.pool.outstanding == 3)
        rig.guest.close()
        rig.verifyNothingLeft()
    }

    @Test("row C8: a close within a record drops what came of it", arguments: [1, 47, 48, 60, 107, 147])
    func closeWithinRecord(count: Int) throws {
        let rig = try Rig(ScriptedBackend([]))
        rig.guest.send(Array(HCDBytes.bulkOut(HCDBytes.id(0), HCDBytes.pattern(100)).prefix(count)))
        rig.guest.close()
        rig.verifyNothingLeft()
    }

    @Test("row C9: completions of the last opener's URBs don't reach the next one")
    func openedAnew() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore), .submit(.any, .hold)]))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(3), 64))
        rig.guest.close()
        let next = try HCDGuest(rig.tree.tree)
        next.send(HCDBytes.bulkIn(HCDBytes.id(3), 64))
        rig.backend.completeNext(data: [1])
        #expect(next.receive() == [])
        rig.backend.completeNext(data: [2])
        #expect(next.receive().map(\.payload) == [[2]])
        rig.verifyNothingLeft()
    }

    @Test("row C9: who opens again and again while nothing ends has to wait")
    func endingSessions() throws {
        var script: [ScriptedBackend.Record] = []
        for _ in 0..<4 { script += [.submit(.any, .hold), .cancel(.ignore)] }
        let rig = try Rig(ScriptedBackend(script))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 64))
        rig.guest.close()
        for _ in 0..<3 {
            let next = try HCDGuest(rig.tree.tree)
            next.send(HCDBytes.bulkIn(HCDBytes.id(0), 64))
            next.close()
        }
        #expect(rig.guest.channel.open() == nil)
        rig.backend.completeNext()
        #expect(rig.guest.channel.open() != nil)
        rig.backend.completeAll(.cancelled)
        rig.verifyNothingLeft()
    }

    @Test("devices stay the guest's, and are added anew for the next opener")
    func addedAnew() throws {
        let rig = try Rig(ScriptedBackend([]))
        rig.guest.close()
        let next = try HCDGuest(rig.tree.tree, isGreeted: false)
        next.send(HCDBytes.hello())
        let answers = next.receive()
        #expect(answers.map(\.kind) == [.hello, .added])
        #expect(answers.last?.record.device == 1)
    }

    @Test("a channel that is closed under its opener answers ENODEV")
    func shut() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 64))
        rig.tree.tree.closeChannel(of: "web1")
        #expect(rig.guest.readFailure() == 19)
        #expect(rig.guest.send(.ping) == 19)
        rig.verifyNothingLeft()
        #expect(rig.guest.channel.open() == nil)
        rig.guest.close()
    }

    @Test("a guest that is removed takes its channel along")
    func guestRemoved() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 64))
        rig.tree.tree.removeGuest("web1")
        #expect(rig.guest.readFailure() == 19)
        rig.verifyNothingLeft()
    }

    @Test("the control plane hears of it, in order")
    func events() async throws {
        let tree = try TreeRig()
        let guest = try HCDGuest(tree.tree, isGreeted: false)
        guest.send(HCDBytes.hello(name: "vusb_hcd\u{1b}[2J 1.0"))
        var wait = HCDRecord(.wait)
        wait.waitFlags = 1
        guest.send(HCDBytes.record(wait))
        guest.send(HCDBytes.record(wait))
        guest.send(.bye)
        guest.close()
        let next = try HCDGuest(tree.tree, isGreeted: false)
        next.send(.ping)
        next.send(.ping)
        tree.tree.closeChannel(of: "web1")
        next.close()
        var kinds: [HCDChannelEvent.Kind] = []
        for await event in tree.tree.channelEvents() {
            #expect(event.guest == "web1")
            kinds.append(event.kind)
            if kinds.count == 5 { break }
        }
        // What a terminal would obey isn't passed on.
        #expect(
            kinds == [
                .opened(peer: "vusb_hcd.[2J 1.0"), .oneAtATime, .closed, .broken(rule: "a record before the hello"),
                .closed,
            ])
    }

    @Test("its status says how it is")
    func status() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 64))
        var status = rig.tree.tree.channelStatus(of: "web1")
        #expect(status == HCDChannelStatus(state: .open, peer: "test 1", ports: 8, urbsInFlight: 1, openCount: 1))
        rig.guest.send(.bye)
        status = rig.tree.tree.channelStatus(of: "web1")
        #expect(status?.state == .leaving)
        rig.guest.close()
        #expect(rig.tree.tree.channelStatus(of: "web1") == HCDChannelStatus(state: .closed, openCount: 1))
    }

    @Test("after the goodbye reads return at once, with what there was and then with nothing")
    func bye() throws {
        let rig = try Rig(ScriptedBackend([]))
        rig.guest.send(.ping, id: 3)
        rig.guest.send(.bye)
        #expect(rig.guest.read()?.count == 48)
        #expect(rig.guest.read() == [])
    }

    @Test("reads wait as long as the guest said, at most a minute")
    func wait() throws {
        let tree = try TreeRig()
        let guest = try HCDGuest(tree.tree, isGreeted: false)
        #expect(guest.session.wait == 1_000_000)
        guest.send(HCDBytes.hello(wait: 250))
        #expect(guest.session.wait == 250)
        var wait = HCDRecord(.wait)
        wait.waitTime = .max
        guest.send(HCDBytes.record(wait))
        #expect(guest.session.wait == 60_000_000)
    }

    @Test("an answer that can't be delivered ends the channel: nothing is lost unnoticed")
    func undeliverable() throws {
        let rig = try Rig(ScriptedBackend(always: .complete(data: [1])))
        rig.guest.send(HCDBytes.bulkIn(HCDBytes.id(0), 64))
        guard case .output(var output) = rig.guest.session.beginRead() else {
            Issue.record("there is something to read")
            return
        }
        rig.guest.session.fill(&output, size: 4096)
        rig.guest.session.endRead(output, isDelivered: false)
        #expect(rig.guest.readFailure() == 71)
        rig.verifyNothingLeft()
    }

    @Test("URBs of several devices on several threads all complete, once")
    func threads() async throws {
        let tree = try TreeRig()
        let backends = (0..<3).map { _ in ScriptedBackend(always: .hold) }
        let devices = backends.enumerated().map { tree.attach(path: "1-\($0.offset + 1)", backend: $0.element) }
        let guest = try HCDGuest(tree.tree)
        let isDone = Inbox<Void>()
        async let completing: Void = Threads.run(3) { index in
            while isDone.count == 0 {
                if !backends[index].completeNext(data: [UInt8(index)]) { Threads.yield() }
            }
        }
        var seen: [UInt64: Int] = [:]
        var submitted = 0
        while seen.count < 3000 {
            if submitted < 3000, submitted - seen.count < 200 {
                guest.send(
                    HCDBytes.bulkIn(
                        HCDBytes.id(submitted % 1024, UInt64(submitted)), 8, device: UInt16(submitted % 3 + 1)))
                submitted += 1
            } else {
                await Task.yield()
            }
            for answer in guest.receive() {
                seen[answer.record.id, default: 0] += 1
                #expect(answer.payload == [UInt8(answer.record.device - 1)])
            }
        }
        isDone.append(())
        await completing
        #expect(seen.values.allSatisfy { $0 == 1 })
        #expect(devices.allSatisfy { $0.inFlight == 0 && $0.pool.outstanding == 0 })
        #expect(guest.session.status.urbsInFlight == 0)
    }

    @Test("a close while another thread submits and a third completes leaves nothing", arguments: 0..<20)
    func closeRace(round: Int) async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        let session = rig.guest.session
        let channel = rig.guest.channel
        let backend = rig.backend
        await Threads.run(3) { index in
            switch index {
            case 0:
                for slot in 0..<100 {
                    let bytes = HCDBytes.bulkOut(HCDBytes.id(slot), [1, 2, 3])
                    unsafe bytes.withUnsafeBytes { _ = session.write(unsafe WriteData($0, in: nil)) }
                }
            case 1: for _ in 0..<100 { backend.completeNext() }
            default:
                for _ in 0..<round * 10 { Threads.yield() }
                channel.close(session)
            }
        }
        backend.completeAll(.cancelled)
        rig.verifyNothingLeft()
    }
}
