// SPDX-License-Identifier: Apache-2.0

import CFuse3
import Glibc
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

extension ManualClock: FileClock {
    func start() -> Bool { true }
    /// What rings for nothing does no harm.
    func forget(_ receiver: any AlarmReceiver) {}
    func settle() {}
}

/// The rows are those of Clock.md. What a program sees is tested on a mount, in Tests/FileSystem.
@Suite("A guest's clock in the tree")
struct ClockTreeTests {
    private let clock = ManualClock()

    private func open(_ openers: ClockOpeners, _ number: UInt64) -> ClockFile? {
        openers.open(FileHandleID(rawValue: number), clock: clock)
    }

    @Test("it's there while the guest is loaded, to be read and written as the guest's file mode says")
    func there() throws {
        let rig = try TreeRig()
        #expect(rig.node("guests/web1/clock") == nil)
        rig.tree.setGuestPublished("web1", true)
        let node = try #require(rig.node("guests/web1/clock"))
        let attributes = try #require(rig.tree.attributes(of: node))
        #expect(attributes.st_mode == S_IFREG | 0o640)
        #expect(attributes.st_uid == 1000 && attributes.st_gid == 1001)
        rig.tree.setGuestPublished("web1", false)
        #expect(rig.node("guests/web1/clock") == nil)
        #expect(rig.tree.attributes(of: node) == nil)
        #expect(rig.tree.clockOpeners(of: node) == nil)
    }

    @Test("K14: an unload ends the timers of one load, not those of the next")
    func loads() throws {
        let rig = try TreeRig()
        rig.tree.setGuestPublished("web1", true)
        let node = try #require(rig.node("guests/web1/clock"))
        let first = try #require(rig.tree.clockOpeners(of: node))
        let old = try #require(open(first, 1))
        rig.tree.setGuestPublished("web1", true)
        #expect(rig.tree.clockOpeners(of: node) === first)
        #expect(!old.isGone)
        rig.tree.setGuestPublished("web1", false)
        #expect(old.isGone)
        #expect(first.count == 0)
        rig.tree.setGuestPublished("web1", true)
        let second = try #require(rig.tree.clockOpeners(of: node))
        #expect(second !== first)
        let new = try #require(open(second, 2))
        #expect(!new.isGone)
        // The old one's close is none of the new one's.
        old.closed()
        rig.tree.removeGuest("web1")
        #expect(new.isGone)
    }

    @Test("K14: who opens while the guest is being unloaded has a timer that is gone")
    func openedLate() throws {
        let openers = ClockOpeners()
        openers.shut()
        let file = try #require(open(openers, 1))
        #expect(file.isGone)
        #expect(openers.count == 0)
    }

    @Test("K16: beyond the limit nobody opens, until one closes")
    func limit() throws {
        let openers = ClockOpeners()
        let files = (1...UInt64(ClockOpeners.limit)).compactMap { open(openers, $0) }
        #expect(files.count == ClockOpeners.limit)
        #expect(open(openers, 5000) == nil)
        files[17].closed()
        #expect(open(openers, 5001) != nil)
        #expect(open(openers, 5002) == nil)
    }

    @Test("K17: openers that close leave nothing")
    func closed() async {
        let openers = ClockOpeners()
        await Threads.run(4) { [clock] thread in
            for number in 0..<200 {
                let id = FileHandleID(rawValue: UInt64(thread * 1000 + number))
                openers.open(id, clock: clock)?.closed()
            }
        }
        #expect(openers.count == 0)
        #expect(!clock.isSet)
    }

    @Test("K14: openers that close while the guest is unloaded leave nothing")
    func closedAtUnload() async {
        for _ in 0..<50 {
            let openers = ClockOpeners()
            await Threads.run(2) { [clock] thread in
                if thread == 0 { return openers.shut() }
                for number in 0..<20 as Range<UInt64> {
                    openers.open(FileHandleID(rawValue: number), clock: clock)?.closed()
                }
            }
            #expect(openers.count == 0)
        }
    }

    @Test("a file that nobody reads or polls sets no alarm")
    func quiet() throws {
        let file = try #require(open(ClockOpeners(), 1))
        file.alarmRang()
        #expect(!clock.isSet)
    }
}
