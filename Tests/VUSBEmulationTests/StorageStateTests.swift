// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

/// What StorageWatch.md says of a whole device, driven as a host's driver does.
@Suite("StorageWatch.md: the emulated disk")
struct StorageStateTests {
    private static let synchronize: [UInt8] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    private static let data = [UInt8](repeating: 0x5a, count: 1024)

    private func dirtyBytes(_ disk: TestDisk) -> UInt64? {
        if case .dirty(_, let bytes)? = disk.host.device.storage?.condition { bytes } else { nil }
    }

    @Test("S3, S6, S12: written is dirty, flushed or written with FUA is clean")
    func writtenAndFlushed() async throws {
        let disk = try await TestDisk(blocks: 64)
        #expect(disk.host.device.storage?.isClean == true)
        #expect(try await disk.run([0x1a, 0, 0x3f, 0, 192, 0], receive: 192).status == 0)
        #expect(try await disk.run(TestDisk.write10(0, 2), send: Self.data).status == 0)
        #expect(disk.host.device.storage?.units.map(\.writeCache) == [.on])
        #expect(dirtyBytes(disk) == 1024)
        #expect(try await disk.run(TestDisk.read10(0, 2), receive: 1024).status == 0)
        #expect(dirtyBytes(disk) == 1024)
        #expect(try await disk.run(Self.synchronize).status == 0)
        #expect(disk.host.device.storage?.isClean == true)
        #expect(try await disk.run(TestDisk.write10(0, 2, durable: true), send: Self.data).status == 0)
        #expect(disk.host.device.storage?.isClean == true)
        await disk.host.close()
    }

    @Test("S20: a write that the disk refuses leaves nothing")
    func refused() async throws {
        let disk = try await TestDisk(blocks: 8, options: ",readonly")
        #expect(try await disk.run(TestDisk.write10(0, 2), send: Self.data).status == 1)
        #expect(try await disk.sense() == [7, 0x27, 0])
        #expect(disk.host.device.storage?.isClean == true)
        await disk.host.close()
    }

    @Test("S3, S24: eject flushes; the class's reset doesn't")
    func ejected() async throws {
        let disk = try await TestDisk(blocks: 8)
        #expect(try await disk.run(TestDisk.write10(0, 2), send: Self.data).status == 0)
        await disk.resetRecovery()
        #expect(dirtyBytes(disk) == 1024)
        #expect(try await disk.run([0x1b, 0, 0, 0, 2, 0]).status == 0)
        #expect(disk.host.device.storage?.isClean == true)
        await disk.host.close()
    }
}
