// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

/// Bulk-Only Transport 1.0: the thirteen cases of 6.7, wrappers that aren't valid, recovery.
@Suite struct BulkOnlyTests {
    static let testUnitReady: [UInt8] = [0, 0, 0, 0, 0, 0]
    static let inquiry: [UInt8] = [0x12, 0, 0, 0, 36, 0]

    // MARK: - The thirteen cases

    @Test func case1HostAndDeviceWantNothing() async throws {
        let disk = try await TestDisk(blocks: 8)
        #expect(try await disk.run(Self.testUnitReady) == .init(status: 0, residue: 0))
        await disk.host.close()
    }

    @Test func cases2And3TheHostExpectsNothingAndTheDeviceMoves() async throws {
        let disk = try await TestDisk(blocks: 8)
        #expect(try await disk.run(Self.inquiry) == .init(status: 2, residue: 0))
        #expect(try await disk.run(TestDisk.write10(0, 1)) == .init(status: 2, residue: 0))
        #expect(try await disk.run(Self.testUnitReady).status == 0)
        await disk.host.close()
    }

    @Test func case4TheHostExpectsDataAndThereAreNone() async throws {
        let disk = try await TestDisk(blocks: 8)
        let result = try await disk.run(Self.testUnitReady, receive: 512)
        #expect(result == .init(dataStatus: .stall, status: 0, residue: 512))
        await disk.host.close()
    }

    @Test func case5TheDeviceHasLessThanTheHostExpects() async throws {
        let disk = try await TestDisk(blocks: 8)
        let short = try await disk.run(Self.inquiry, receive: 100)
        #expect(short.data.count == 36 && short.dataStatus == .success && short.status == 0 && short.residue == 64)
        // Whole packets: a packet of no bytes ends them, in this transfer or the next.
        let whole = try await disk.run(TestDisk.read10(0, 1), receive: 1024)
        #expect(whole.data.count == 512 && whole.dataStatus == .success && whole.status == 0 && whole.residue == 512)
        await disk.sendWrapper(TestDisk.read10(0, 1), 1024, isIn: true)
        #expect(await disk.host.receive(0x81, 512).actualLength == 512)
        let empty = await disk.host.receive(0x81, 512)
        #expect(empty.status == .success && empty.actualLength == 0)
        #expect(try await disk.readStatus(.init(status: 9, residue: 0)).residue == 512)
        await disk.host.close()
    }

    @Test func case7TheDeviceHasMoreThanTheHostExpects() async throws {
        let disk = try await TestDisk(blocks: 8)
        let result = try await disk.run(TestDisk.read10(0, 2), receive: 512)
        #expect(result.data == (try Array(disk.content[0..<512])) && result.status == 2 && result.residue == 0)
        await disk.host.close()
    }

    @Test func case8TheHostReadsAndTheDeviceWouldBeWritten() async throws {
        let disk = try await TestDisk(blocks: 8)
        let content = try disk.content
        let result = try await disk.run(TestDisk.write10(0, 1), receive: 512)
        #expect(result == .init(dataStatus: .stall, status: 2, residue: 512))
        #expect(try disk.content == content)
        await disk.host.close()
    }

    @Test func case9TheHostSendsAndNobodyWantsIt() async throws {
        let disk = try await TestDisk(blocks: 8)
        let result = try await disk.run(Self.testUnitReady, send: Array(repeating: 0, count: 512))
        #expect(result == .init(dataStatus: .stall, status: 0, residue: 512))
        await disk.host.close()
    }

    @Test func case10TheHostSendsAndTheDeviceWouldSend() async throws {
        let disk = try await TestDisk(blocks: 8)
        let result = try await disk.run(Self.inquiry, send: Array(repeating: 0, count: 36))
        #expect(result == .init(dataStatus: .stall, status: 2, residue: 36))
        await disk.host.close()
    }

    @Test func case11TheHostSendsMoreThanTheDeviceTakes() async throws {
        let disk = try await TestDisk(blocks: 8)
        let content = try disk.content
        let result = try await disk.run(TestDisk.write10(1, 1), send: Array(repeating: 0xaa, count: 1024))
        #expect(result == .init(dataStatus: .stall, status: 0, residue: 512))
        #expect(try disk.content == content[0..<512] + Array(repeating: 0xaa, count: 512) + content[1024...])
        await disk.host.close()
    }

    @Test func case13TheHostSendsLessThanTheDeviceTakes() async throws {
        let disk = try await TestDisk(blocks: 8)
        let content = try disk.content
        let result = try await disk.run(TestDisk.write10(1, 2), send: Array(repeating: 0xaa, count: 512))
        #expect(result == .init(dataStatus: .success, status: 2, residue: 0))
        #expect(try disk.content == content[0..<512] + Array(repeating: 0xaa, count: 512) + content[1024...])
        await disk.host.close()
    }

    // MARK: - Data that end early, and status out of turn

    @Test func aShortPacketEndsTheDataBeforeTheirTime() async throws {
        let disk = try await TestDisk(blocks: 8)
        await disk.sendWrapper(TestDisk.write10(0, 4), 2048, isIn: false)
        #expect(await disk.host.send(0x02, Array(repeating: 1, count: 600)).actualLength == 600)
        #expect(try await disk.readStatus(.init(status: 9, residue: 9)) == .init(status: 0, residue: 1448))
        await disk.host.close()
    }

    @Test func aReadWithRoomForMoreGetsTheStatusBehindTheData() async throws {
        let disk = try await TestDisk(blocks: 8)
        await disk.sendWrapper(TestDisk.read10(0, 1), 512, isIn: true)
        let completion = await disk.host.receive(0x81, 4096)
        #expect(completion.actualLength == 525)
        #expect(Array(completion.bytes[512..<516]) == Array("USBS".utf8))
        await disk.host.close()
    }

    @Test func dataThatEndInsideAPacketAreBabbleAndStayThere() async throws {
        let disk = try await TestDisk(blocks: 8)
        await disk.sendWrapper(TestDisk.read10(0, 1), 512, isIn: true)
        #expect(await disk.host.receive(0x81, 100).status == .babble)
        #expect(await disk.host.receive(0x81, 512).actualLength == 512)
        #expect(await disk.host.receive(0x81, 12).status == .babble)
        #expect(try await disk.readStatus(.init(status: 9, residue: 9)).status == 0)
        await disk.host.close()
    }

    @Test func statusWaitsForACommandAndACommandForTheStatus() async throws {
        let disk = try await TestDisk(blocks: 8)
        let (status, _) = disk.host.startReceive(0x81, 13)
        #expect(status.completions.isEmpty)
        await disk.sendWrapper(Self.testUnitReady, 0, isIn: false)
        #expect(await status.wait(for: 1)[0].actualLength == 13)
        await disk.sendWrapper(Self.testUnitReady, 0, isIn: false)
        let (second, token) = disk.host.startSend(0x02, TestDisk.wrapper(9, 0, false, Self.testUnitReady))
        #expect(second.completions.isEmpty)
        disk.host.device.cancel(token)
        #expect(await second.wait(for: 1)[0].status == .cancelled)
        #expect(try await disk.readStatus(.init(status: 9, residue: 9)).status == 0)
        await disk.host.close()
    }

    // MARK: - Wrappers that aren't valid

    static let good = TestDisk.wrapper(1, 0, false, testUnitReady)
    static let bad: [[UInt8]] =
        [
            [], [0], Array(good.dropLast()), good + [0], Array(repeating: 0xff, count: 31),
            Array(repeating: 0, count: 512),
        ]
        + [(0, 0x56), (12, 1), (13, 1), (14, 0), (14, 17), (14, 0xff)].map { position, value in
            var wrapper = good
            wrapper[position] = UInt8(value)
            return wrapper
        }

    @Test(arguments: bad) func anInvalidWrapperHaltsBothEndsUntilResetRecovery(_ wrapper: [UInt8]) async throws {
        let disk = try await TestDisk(blocks: 8)
        #expect(await disk.host.send(0x02, wrapper).status == .success)
        #expect(await disk.host.receive(0x81, 13).status == .stall)
        #expect(await disk.host.send(0x02, Self.good).status == .stall)
        // Clearing alone doesn't help (6.6.1).
        await disk.host.clearHalt(0x81)
        await disk.host.clearHalt(0x02)
        #expect(await disk.host.receive(0x81, 13).status == .stall)
        #expect(await disk.host.send(0x02, Self.good).status == .stall)
        await disk.resetRecovery()
        #expect(try await disk.run(Self.testUnitReady).status == 0)
        await disk.host.close()
    }

    @Test func resetForgetsACommandHalfDone() async throws {
        let disk = try await TestDisk(blocks: 8)
        await disk.sendWrapper(TestDisk.read10(0, 4), 2048, isIn: true)
        #expect(await disk.host.receive(0x81, 512).actualLength == 512)
        await disk.resetRecovery()
        #expect(try await disk.run(TestDisk.read10(1, 1), receive: 512).data == Array(disk.content[512..<1024]))
        #expect(await disk.host.control(0x21, 0xff, 1).status == .stall)
        #expect(await disk.host.control(0x21, 0xff, 0, 1).status == .stall)
        await disk.host.close()
    }

    @Test func aPortResetForgetsACommandHalfDone() async throws {
        let disk = try await TestDisk(blocks: 8)
        await disk.sendWrapper(TestDisk.write10(0, 4), 2048, isIn: false)
        try await disk.host.device.reset()
        #expect(try await disk.run(Self.testUnitReady).status == 0)
        await disk.host.close()
    }

    @Test func unplugInTheMiddleOfADataStage() async throws {
        let disk = try await TestDisk(blocks: 8)
        await disk.sendWrapper(TestDisk.write10(0, 4), 2048, isIn: false)
        let (reader, _) = disk.host.startReceive(0x81, 13)
        try disk.host.source.remove(disk.host.record.id)
        #expect(await reader.wait(for: 1)[0].status == .noDevice)
        #expect(await disk.host.send(0x02, [1]).status == .noDevice)
        await disk.host.close()
    }

    @Test func eightThreadsOfWhichOneSpeaksTheProtocol() async throws {
        let disk = try await TestDisk(blocks: 64)
        let host = disk.host
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<7 {
                group.addTask {
                    for _ in 0..<100 {
                        #expect(await host.control(0x82, 0, 0, 0x81, length: 2).bytes == [0, 0])
                        let (reader, token) = host.startReceive(0x83, 512)
                        host.device.cancel(token)
                        #expect(await reader.wait(for: 1)[0].status == .noEndpoint)
                    }
                }
            }
            for index in 0..<100 {
                let result = try? await disk.run(TestDisk.read10(UInt64(index % 64), 1), receive: 512)
                #expect(result?.status == 0 && result?.data.count == 512)
            }
        }
        await host.close()
    }
}
