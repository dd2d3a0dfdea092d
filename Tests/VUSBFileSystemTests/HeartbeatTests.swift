// SPDX-License-Identifier: Apache-2.0

import CFuse3
import Glibc
import Synchronization
import Testing
import VUSBTestSupport

@testable import VUSBFileSystem

/// The rows are those of Clock.md.
@Suite("A guest's heartbeat")
struct HeartbeatTests {
    /// A tree with guest `web1`, loaded with a heartbeat, and its heartbeat.
    private func loaded() throws -> (TreeRig, Heartbeat) {
        let rig = try TreeRig()
        rig.tree.setGuestPublished("web1", true, heartbeat: true)
        let node = try #require(rig.node("guests/web1/heartbeat"))
        return (rig, try #require(rig.tree.heartbeat(of: node)))
    }

    @Test("H1: without one there is no file, no beat and nothing to be told")
    func none() throws {
        let rig = try TreeRig()
        rig.tree.setGuestPublished("web1", true)
        #expect(rig.names("guests/web1")?.contains("heartbeat") == false)
        #expect(rig.tree.lastHeartbeat(of: "web1") == nil)
        #expect(!rig.tree.tellNextBeat(of: "web1"))
        #expect(!rig.tree.tellNextBeat(of: "web2"))
    }

    @Test("H2: with one there is a file to be written to, and no beat yet")
    func there() throws {
        let (rig, _) = try loaded()
        #expect(rig.tree.lastHeartbeat(of: "web1") == nil)
        let node = try #require(rig.node("guests/web1/heartbeat"))
        // 0640 of the guest's, without what reads.
        #expect(rig.tree.attributes(of: node)?.st_mode == S_IFREG | 0o200)
    }

    @Test("a beat is noted, and the next one after it")
    func beats() throws {
        let (rig, heartbeat) = try loaded()
        let before = ContinuousClock.now
        #expect(heartbeat.beat())
        let first = try #require(rig.tree.lastHeartbeat(of: "web1"))
        #expect(first >= before && first <= .now)
        let next = first.advanced(by: .seconds(5) + .nanoseconds(1))
        #expect(heartbeat.beat(at: next))
        #expect(rig.tree.lastHeartbeat(of: "web1") == next)
    }

    @Test("H3: of beats at once the latest counts: the last beat never goes back")
    func latest() async throws {
        let (rig, heartbeat) = try loaded()
        let begin = ContinuousClock.now
        await Threads.run(4) { thread in
            for number in 0..<500 {
                let instant = begin.advanced(by: .milliseconds(number * 4 + thread))
                #expect(heartbeat.beat(at: instant))
                if let last = heartbeat.lastBeat { #expect(last >= instant) } else { Issue.record("no beat") }
            }
        }
        #expect(rig.tree.lastHeartbeat(of: "web1") == begin.advanced(by: .milliseconds(1999)))
    }

    @Test("H4, H5: the first beat after each request gives one event, others none")
    func events() async throws {
        let (rig, heartbeat) = try loaded()
        var events = rig.tree.heartbeatEvents().makeAsyncIterator()
        let begin = ContinuousClock.now
        func beat(_ seconds: Int) { #expect(heartbeat.beat(at: begin.advanced(by: .seconds(seconds)))) }
        beat(1)
        #expect(rig.tree.tellNextBeat(of: "web1"))
        #expect(rig.tree.tellNextBeat(of: "web1"))
        beat(2)
        beat(3)
        rig.tree.tellNextBeat(of: "web1")
        beat(4)
        let (first, second) = (await events.next(), await events.next())
        #expect(first == HeartbeatEvent(guest: "web1", instant: begin.advanced(by: .seconds(2))))
        #expect(second == HeartbeatEvent(guest: "web1", instant: begin.advanced(by: .seconds(4))))
    }

    @Test("H6: requests among beats are each answered with one of them")
    func race() async throws {
        let (rig, heartbeat) = try loaded()
        let tree = rig.tree
        let isOver = Atomic(false)
        let received = Inbox<HeartbeatEvent>()
        let reader = Task { for await event in tree.heartbeatEvents() { received.append(event) } }
        let beating = Task {
            await Threads.run(2) { _ in
                while !isOver.load(ordering: .relaxed) { if !heartbeat.beat() { Issue.record("shut") } }
            }
        }
        for number in 1...200 {
            #expect(tree.tellNextBeat(of: "web1"))
            #expect(await received.wait(for: number).count == number)
        }
        isOver.store(true, ordering: .relaxed)
        await beating.value
        reader.cancel()
    }

    @Test("H8, H9: an unload ends it, and the next load begins anew")
    func loads() throws {
        let (rig, old) = try loaded()
        #expect(old.beat())
        rig.tree.setGuestPublished("web1", false)
        #expect(rig.names("guests/web1") == ["state", "events"])
        #expect(rig.tree.lastHeartbeat(of: "web1") == nil)
        #expect(!old.beat())
        rig.tree.setGuestPublished("web1", true, heartbeat: true)
        #expect(!old.beat())
        old.tellNext()
        #expect(!old.beat())
        #expect(rig.tree.lastHeartbeat(of: "web1") == nil)
        let node = try #require(rig.node("guests/web1/heartbeat"))
        let new = try #require(rig.tree.heartbeat(of: node))
        #expect(new.beat())
        rig.tree.removeGuest("web1")
        #expect(!new.beat())
    }

    @Test("H9: a load that asks for none has none")
    func without() throws {
        let (rig, old) = try loaded()
        rig.tree.setGuestPublished("web1", true, heartbeat: true)
        #expect(old.beat())
        rig.tree.setGuestPublished("web1", true, heartbeat: false)
        #expect(rig.node("guests/web1/heartbeat") == nil)
        #expect(!old.beat())
    }
}
