// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// The rows of StorageWatch.md on Bulk-Only Transport, through a `VirtualDevice`.
@Suite("StorageWatch.md: bulk-only")
struct StorageBulkOnlyTests {
    private static let data = [UInt8](repeating: 0x5a, count: 1024)

    @Test("a device that isn't mass storage has no storage state")
    func otherDevice() throws {
        let rig = try Rig(ScriptedBackend())
        #expect(rig.device.storage == nil)
    }

    @Test("S1: nothing written is clean, and reads don't change that")
    func clean() async throws {
        let rig = try StorageRig()
        #expect(rig.condition == .clean)
        try rig.question(Block.read10, Self.data)
        #expect(rig.condition == .clean)
        #expect(rig.device.storage?.reason(at: .now) == nil)
        await rig.end()
    }

    @Test("S2: a write is in progress from the submit of its wrapper to its status")
    func inProgress() async throws {
        let rig = try StorageRig()
        let wrapper = try rig.submitOut(0x02, StorageRig.wrapper(Block.write10(2), out: 1024))
        #expect(rig.busyWith == "WRITE(10)")
        wrapper.complete()
        try rig.out(0x02, Self.data)
        let status = try rig.submitIn(0x81, 13)
        #expect(rig.busyWith == "WRITE(10)")
        let state = try #require(rig.device.storage)
        if case .inProgress(_, let since) = state.condition {
            #expect(state.reason(at: since + .milliseconds(340)) == "WRITE(10) in progress since 0.3 s")
        }
        status.complete(data: StorageRig.status(7))
        #expect(rig.dirtyBytes == 1024)
        await rig.end()
    }

    @Test("S3: a write is dirty until SYNCHRONIZE CACHE has succeeded; residue doesn't count")
    func flushed() async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2), Self.data)
        try rig.out(0x02, StorageRig.wrapper(Block.write16(2), out: 1024))
        try rig.out(0x02, Self.data)
        try rig.in(0x81, StorageRig.status(7, residue: 512))
        #expect(rig.dirtyBytes == 1536)
        try rig.out(0x02, StorageRig.wrapper(Block.synchronize))
        #expect(rig.dirtyBytes == 1536)
        try rig.in(0x81, StorageRig.status(7))
        #expect(rig.condition == .clean)
        await rig.end()
    }

    @Test(
        "S3, S4: only a flush that covers all, and whose status comes at its end, makes clean",
        arguments: [
            (Block.synchronize, true),
            ([0x91] + Array(repeating: 0, count: 15), true),
            (Block.stop, true),
            ([0x35, 0x02, 0, 0, 0, 0, 0, 0, 0, 0], false),  // IMMED.
            ([0x35, 0, 0, 0, 0, 1, 0, 0, 0, 0], false),  // From block 1.
            ([0x35, 0, 0, 0, 0, 0, 0, 0, 8, 0], false),  // 8 blocks.
            ([0x91, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], false),
            ([0x1b, 0x01, 0, 0, 0, 0], false),  // IMMED.
            ([0x1b, 0, 0, 0, 0x01, 0], false),  // START.
            ([0x1b, 0, 0, 0, 0x04, 0], false),  // NO_FLUSH.
            ([0x1b, 0, 0, 0, 0x20, 0], false),  // A power condition.
            ([0x1b, 0, 0, 0, 0x02, 0], true),  // Eject.
        ])
    func flushes(_ block: [UInt8], _ isClean: Bool) async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2), Self.data)
        try rig.command(block)
        #expect((rig.condition == .clean) == isClean)
        await rig.end()
    }

    @Test("S5: a flush that fails leaves it dirty")
    func failedFlush() async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2), Self.data)
        try rig.command(Block.synchronize, status: 1)
        try rig.question(Block.requestSense, Block.sense(0x03))
        #expect(rig.dirtyBytes == 1024)
        await rig.end()
    }

    @Test("S6: FUA is on the medium when it has succeeded, and settles nothing else")
    func forcedUnitAccess() async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2, fua: true), Self.data)
        #expect(rig.condition == .clean)
        try rig.command(Block.write10(1), Array(Self.data.prefix(512)))
        try rig.command(Block.write10(2, fua: true), Self.data)
        #expect(rig.dirtyBytes == 512)
        await rig.end()
    }

    @Test(
        "S7: all that changes the medium counts",
        arguments: [
            [0x0a, 0, 0, 0, 1, 0], [0xaa], [0x8a], [0x2e], [0xae], [0x8e], [0x41], [0x93], [0x42], [0x04, 0x10], [0x48],
            [0x53], [0x50], [0x51], [0x89], [0x8b], [0x9c], [0x3f], [0x9f, 0x11], [0x83], [0x94], [0x5b], [0x07],
            [0x85, 5 << 1], [0xa1, 6 << 1], [0x7f, 0, 0, 0, 0, 0, 0, 24, 0, 0x0b],
        ] as [[UInt8]])
    func changes(_ block: [UInt8]) async throws {
        let rig = try StorageRig()
        try rig.command(block, Self.data)
        #expect(rig.dirtyBytes == 1024)
        await rig.end()
    }

    @Test(
        "S1: what doesn't change the medium doesn't count",
        arguments: [
            Block.testUnitReady, [0x12], [0x25], [0x2f], [0x9e, 0x10], [0x9f, 0x0a], [0xa0], [0x85, 4 << 1],
            [0xa1, 6 << 1, 0x08], [0x3b], [0x1e], [0xff], [0x7f, 0, 0, 0, 0, 0, 0, 24, 0, 0x09],
        ] as [[UInt8]])
    func harmless(_ block: [UInt8]) async throws {
        let rig = try StorageRig()
        try rig.command(block, Self.data)
        #expect(rig.condition == .clean)
        await rig.end()
    }

    // MARK: - The write cache

    @Test("S10: nobody asked: it counts as on, and the reason says so")
    func neverAsked() async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2), Self.data)
        #expect(rig.writeCache == .unknown)
        let state = try #require(rig.device.storage)
        if case .dirty(let since, _) = state.condition {
            #expect(
                state.reason(at: since + .milliseconds(2100))
                    == "1 KiB written since 2.1 s and not yet flushed (SYNCHRONIZE CACHE); "
                    + "whether it has a write cache was never asked")
        }
        await rig.end()
    }

    @Test("S11: no write cache: a write is on the medium when its status has come, also one from before that was told")
    func cacheOff() async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2), Self.data)
        try rig.question(Block.modeSense, Block.cachingPage(false))
        #expect(rig.writeCache == .off)
        #expect(rig.condition == .clean)
        try rig.out(0x02, StorageRig.wrapper(Block.write10(2), out: 1024))
        #expect(rig.busyWith == "WRITE(10)")
        try rig.out(0x02, Self.data)
        try rig.in(0x81, StorageRig.status(7))
        #expect(rig.condition == .clean)
        await rig.end()
    }

    @Test("S12: a write cache: dirty until flushed, and the reason has no doubt")
    func cacheOn() async throws {
        let rig = try StorageRig()
        try rig.question(Block.modeSense, Block.cachingPage(true))
        try rig.command(Block.write10(2), Self.data)
        #expect(rig.writeCache == .on)
        #expect(rig.dirtyBytes == 1024)
        #expect(rig.device.storage?.reason(at: .now)?.hasSuffix("(SYNCHRONIZE CACHE)") == true)
        await rig.end()
    }

    @Test("S13: all pages, but no caching page: no write cache, as Linux takes it; never against what was told before")
    func noCachingPage() async throws {
        let rig = try StorageRig()
        try rig.question(Block.modeSense, Block.noCachingPage)
        #expect(rig.writeCache == .off)
        try rig.question(Block.modeSense, Block.cachingPage(true))
        try rig.question(Block.modeSense, Block.noCachingPage)
        #expect(rig.writeCache == .on)
        await rig.end()
    }

    @Test("S13: the caching page is refused: no write cache; refused as not ready: not known")
    func refusedQuestion() async throws {
        let rig = try StorageRig()
        try rig.question(Block.modeSense10, [], status: 1)
        try rig.question(Block.requestSense, Block.sense(0x06))
        try rig.command(Block.write10(2), Self.data)
        #expect(rig.writeCache == .unknown)
        try rig.question(Block.modeSense10, [], status: 1)
        try rig.question(Block.requestSense, Block.sense(0x05))
        #expect(rig.writeCache == .off)
        await rig.end()
    }

    @Test("S13: a flush is refused as no such command: no write cache that could be flushed")
    func refusedFlush() async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2), Self.data)
        try rig.command(Block.synchronize, status: 1)
        #expect(rig.dirtyBytes == 1024)
        try rig.question(Block.requestSense, Block.sense(0x05))
        #expect(rig.condition == .clean)
        await rig.end()
    }

    @Test("S14: an answer that is cut before the page, or of other values, says nothing")
    func cutAnswer() async throws {
        let rig = try StorageRig()
        try rig.question(Block.modeSense, Array(Block.cachingPage(false).prefix(4)))
        try rig.question(Block.modeSense, Array(Block.cachingPage(false).prefix(10)))
        // Changeable and default values.
        try rig.question([0x1a, 0, 0x48, 0, 192, 0], Block.cachingPage(false))
        try rig.question([0x1a, 0, 0x88, 0, 192, 0], Block.cachingPage(false))
        try rig.command(Block.write10(2), Self.data)
        #expect(rig.writeCache == .unknown)
        await rig.end()
    }

    @Test("S14: an answer in several URBs counts as one")
    func splitAnswer() async throws {
        let rig = try StorageRig()
        try rig.out(0x02, StorageRig.wrapper(Block.modeSense, in: 192))
        let answer = Block.cachingPage(false)
        for start in stride(from: 0, to: answer.count, by: 5) {
            try rig.in(0x81, Array(answer[start..<min(start + 5, answer.count)]), room: 64)
        }
        try rig.in(0x81, StorageRig.status(7))
        #expect(rig.writeCache == .off)
        await rig.end()
    }

    @Test("S15: MODE SELECT turns it on and off; off writes what is cached")
    func modeSelect() async throws {
        let rig = try StorageRig()
        try rig.command(Block.modeSelect, Block.cachingPage(true))
        #expect(rig.writeCache == .on)
        try rig.command(Block.write10(2), Self.data)
        try rig.command(Block.modeSelect, Block.cachingPage(false), status: 1)
        try rig.command(Block.testUnitReady)
        #expect(rig.dirtyBytes == 1024)
        try rig.command(Block.modeSelect, Block.cachingPage(false))
        #expect(rig.writeCache == .off)
        #expect(rig.condition == .clean)
        await rig.end()
    }

    @Test("S16: FORMAT UNIT and SANITIZE may go on behind their status: a flush has to follow, cache or not")
    func later() async throws {
        let rig = try StorageRig()
        try rig.command([0x48, 0x83])
        try rig.question(Block.modeSense, Block.cachingPage(false))
        #expect(rig.dirtyBytes == 0)
        #expect(rig.device.storage?.reason(at: .now)?.hasPrefix("the medium changed since") == true)
        try rig.command(Block.synchronize)
        #expect(rig.condition == .clean)
        try rig.command([0x04, 0x10], Self.data)
        #expect(rig.dirtyBytes == 1024)
        await rig.end()
    }

    // MARK: - What goes wrong

    @Test("S20: a write fails: what it left counts, unless the device says that it wasn't begun")
    func failedWrite() async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2), Self.data, status: 1)
        #expect(rig.busyWith == "WRITE(10)")
        try rig.question(Block.requestSense, Block.sense(0x07))
        #expect(rig.condition == .clean)
        try rig.command(Block.write10(2), Self.data, status: 1)
        try rig.question(Block.requestSense, Block.sense(0x03))
        #expect(rig.dirtyBytes == 1024)
        await rig.end()
    }

    @Test("S20: a write fails and nobody asks why: what it left counts")
    func failedWriteUnasked() async throws {
        let rig = try StorageRig()
        try rig.command(Block.write10(2), Self.data, status: 1)
        try rig.command(Block.testUnitReady)
        #expect(rig.dirtyBytes == 1024)
        await rig.end()
    }

    @Test("S21: no status, and the next command comes; a phase error; a wrapper that fails: it may be written")
    func withoutStatus() async throws {
        let rig = try StorageRig()
        try rig.out(0x02, StorageRig.wrapper(Block.write10(1), out: 512))
        try rig.command(Block.testUnitReady)
        #expect(rig.dirtyBytes == 512)
        try rig.command(Block.write10(1), Array(Self.data.prefix(512)), status: 2)
        #expect(rig.dirtyBytes == 1024)
        try rig.submitOut(0x02, StorageRig.wrapper(Block.write10(1), out: 512)).complete(.protocolError)
        #expect(rig.dirtyBytes == 1536)
        await rig.end()
    }

    @Test("S22: a status with another tag, or of another length, isn't this command's")
    func otherStatus() async throws {
        let rig = try StorageRig()
        try rig.out(0x02, StorageRig.wrapper(Block.write10(1), out: 512, tag: 7))
        try rig.in(0x81, StorageRig.status(6))
        try rig.in(0x81, StorageRig.status(7) + [0], room: 64)
        try rig.submitIn(0x81, 13).complete(.stall)
        #expect(rig.busyWith == "WRITE(10)")
        // Some devices have a signature of their own.
        try rig.in(0x81, [0x55, 0x53, 0x42, 0x55] + StorageRig.status(7).dropFirst(4))
        #expect(rig.dirtyBytes == 512)
        await rig.end()
    }

    @Test("S23: what isn't a wrapper is data", arguments: [30, 32, 31])
    func notWrapper(_ length: Int) async throws {
        let rig = try StorageRig()
        var bytes = StorageRig.wrapper(Block.write10(1), out: 512) + [0]
        bytes[14] = length == 31 ? 0 : 10  // A command of no bytes has no meaning.
        try rig.out(0x02, Array(bytes.prefix(length)))
        try rig.in(0x81, StorageRig.status(7))
        #expect(rig.condition == .clean)
        await rig.end()
    }

    @Test("S24: the class's reset: what was under way is void, what was dirty stays so")
    func bulkOnlyReset() async throws {
        let rig = try StorageRig()
        let reset = SetupPacket(bmRequestType: 0x21, bRequest: 0xff, wValue: 0, wIndex: 0, wLength: 0)
        try rig.out(0x02, StorageRig.wrapper(Block.synchronize))
        #expect(rig.busyWith == "SYNCHRONIZE CACHE(10)")
        try rig.control(reset)
        #expect(rig.condition == .clean)
        try rig.out(0x02, StorageRig.wrapper(Block.write10(1), out: 512))
        try rig.control(reset)
        #expect(rig.dirtyBytes == 512)
        // Its status, too late.
        try rig.in(0x81, StorageRig.status(7))
        #expect(rig.dirtyBytes == 512)
        try rig.control(reset)
        #expect(rig.dirtyBytes == 512)
        await rig.end()
    }

    @Test("S25: port reset and SET_CONFIGURATION: what was under way is void, what was dirty stays so")
    func portReset() async throws {
        let rig = try StorageRig()
        try rig.question(Block.modeSense, Block.cachingPage(true))
        try rig.out(0x02, StorageRig.wrapper(Block.write10(1), out: 512))
        try await rig.device.reset()
        #expect(rig.dirtyBytes == 512)
        try rig.out(0x02, StorageRig.wrapper(Block.write10(1), out: 512))
        try rig.control(.setConfiguration(1))
        #expect(rig.dirtyBytes == 1024)
        try rig.control(.setConfiguration(0))
        #expect(rig.dirtyBytes == 1024)
        #expect(rig.writeCache == .on)
        await rig.end()
    }

    // MARK: - Several units

    @Test("S30: each unit for itself; one that is dirty makes the device dirty")
    func units() async throws {
        let rig = try StorageRig()
        try rig.question(Block.modeSense, Block.cachingPage(false), lun: 0)
        try rig.question(Block.modeSense, Block.cachingPage(true), lun: 1)
        try rig.command(Block.write10(2), Self.data, lun: 0)
        try rig.command(Block.write10(2), Self.data, lun: 1)
        let state = try #require(rig.device.storage)
        #expect(state.units.map(\.lun) == [0, 1])
        #expect(state.units[0].condition == .clean)
        #expect(rig.dirtyBytes == 1024)
        #expect(state.reason(at: .now)?.hasPrefix("LUN 1: 1 KiB written") == true)
        try rig.command(Block.synchronize, lun: 0)
        #expect(rig.dirtyBytes == 1024)
        try rig.command(Block.synchronize, lun: 1)
        #expect(rig.condition == .clean)
        await rig.end()
    }
}
