// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

@Suite struct DiskTests {
    // MARK: - Reading and writing

    @Test(arguments: ["full", "high", "super"]) func readsAreTheImagesBytes(_ speed: String) async throws {
        let disk = try await TestDisk(blocks: 2048, options: ",speed=\(speed)")
        let content = try disk.content
        for (first, count) in [(0, 1), (5, 7), (2047, 1), (0, 128), (1000, 1000)] {
            let result = try await disk.run(TestDisk.read10(UInt64(first), UInt64(count)), receive: count * 512)
            #expect(result.status == 0 && result.residue == 0)
            #expect(result.data == Array(content[first * 512..<(first + count) * 512]))
        }
        await disk.host.close()
    }

    @Test(arguments: ["full", "high", "super"]) func writesReachTheImage(_ speed: String) async throws {
        let disk = try await TestDisk(blocks: 64, options: ",speed=\(speed)")
        var content = try disk.content
        for (first, count, isDurable) in [(0, 1, false), (10, 20, true), (63, 1, false)] {
            let data = (0..<count * 512).map { UInt8(truncatingIfNeeded: $0 &* 3 &+ first) }
            let command = TestDisk.write10(UInt64(first), UInt64(count), durable: isDurable)
            let result = try await disk.run(command, send: data)
            #expect(result.status == 0 && result.residue == 0)
            content.replaceSubrange(first * 512..<(first + count) * 512, with: data)
        }
        #expect(try await disk.run([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]).status == 0)
        #expect(try disk.content == content)
        await disk.host.close()
    }

    @Test func dataMayComeInManyTransfers() async throws {
        let disk = try await TestDisk(blocks: 64)
        let content = try disk.content
        await disk.sendWrapper(TestDisk.read10(0, 8), 4096, isIn: true)
        var data: [UInt8] = []
        for count in [512, 1024, 512, 2048] { data += await disk.host.receive(0x81, count).bytes }
        #expect(data == Array(content[0..<4096]))
        #expect(try await disk.readStatus(.init(status: 9, residue: 9)) == .init(status: 0, residue: 0))
        await disk.sendWrapper(TestDisk.write10(1, 2), 1024, isIn: false)
        for _ in 0..<2 { await disk.host.send(0x02, Array(repeating: 0xee, count: 512)) }
        #expect(try await disk.readStatus(.init(status: 9, residue: 9)) == .init(status: 0, residue: 0))
        #expect(try disk.content == content[0..<512] + Array(repeating: 0xee, count: 1024) + content[1536...])
        await disk.host.close()
    }

    @Test func sixTwelveAndSixteenByteFormsDoTheSame() async throws {
        let disk = try await TestDisk(blocks: 512)
        let content = try disk.content
        let block = Array(content[3 * 512..<4 * 512])
        #expect(try await disk.run([0x08, 0, 0, 3, 1, 0], receive: 512).data == block)
        // In six bytes, 0 blocks are 256.
        #expect(try await disk.run([0x08, 0, 0, 0, 0, 0], receive: 131_072).data == Array(content[0..<131_072]))
        let read12 = [0xa8, 0] + TestDisk.big(3, 4) + TestDisk.big(1, 4) + [0, 0]
        #expect(try await disk.run(read12, receive: 512).data == block)
        let read16 = [0x88, 0] + TestDisk.big(3, 8) + TestDisk.big(1, 4) + [0, 0]
        #expect(try await disk.run(read16, receive: 512).data == block)
        let forms: [([UInt8], Int)] = [
            ([0x0a, 0, 0, 5, 1, 0], 5), ([0xaa, 0] + TestDisk.big(6, 4) + TestDisk.big(1, 4) + [0, 0], 6),
            ([0x8a, 0] + TestDisk.big(7, 8) + TestDisk.big(1, 4) + [0, 0], 7),
        ]
        for (command, number) in forms {
            let data = Array(repeating: UInt8(number), count: 512)
            #expect(try await disk.run(command, send: data).status == 0)
            #expect(try Array(disk.content[number * 512..<(number + 1) * 512]) == data)
        }
        await disk.host.close()
    }

    // MARK: - What the disk says of itself

    @Test func inquiryAndItsPages() async throws {
        let disk = try await TestDisk(blocks: 64, options: ",serial=0123456789AB")
        let inquiry = try await disk.run([0x12, 0, 0, 0, 36, 0], receive: 36).data
        #expect(inquiry.count == 36 && inquiry[0] == 0 && inquiry[1] == 0x80 && inquiry[4] == 31)
        #expect(String(decoding: inquiry[8..<16], as: UTF8.self) == "vusb    ")
        let pages = try await disk.run([0x12, 1, 0, 0, 255, 0], receive: 255).data
        #expect(pages == [0, 0, 0, 4, 0, 0x80, 0x83, 0xb0])
        let serial = try await disk.run([0x12, 1, 0x80, 0, 255, 0], receive: 255).data
        #expect(serial == [0, 0x80, 0, 12] + Array("0123456789AB".utf8))
        let identification = try await disk.run([0x12, 1, 0x83, 0, 255, 0], receive: 255).data
        #expect(Int(identification[3]) == identification.count - 4 && identification.suffix(12) == serial.suffix(12))
        #expect(try await disk.run([0x12, 1, 0xb0, 0, 255, 0], receive: 255).data.count == 64)
        let result = try await disk.run([0x12, 1, 0x99, 0, 255, 0], receive: 255)
        #expect(result.status == 1 && result.dataStatus == .stall && result.residue == 255)
        #expect(try await disk.sense() == [5, 0x24, 0])
        await disk.host.close()
    }

    @Test func capacityModeAndUnits() async throws {
        let disk = try await TestDisk(blocks: 100)
        #expect(
            try await disk.run([0x25] + Array(repeating: 0, count: 9), receive: 8).data == [0, 0, 0, 99, 0, 0, 2, 0])
        let long = try await disk.run([0x9e, 0x10] + Array(repeating: 0, count: 8) + [0, 0, 0, 32, 0, 0], receive: 32)
        #expect(Array(long.data[0..<12]) == [0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 2, 0])
        #expect(
            try await disk.run([0x23, 0, 0, 0, 0, 0, 0, 0, 252, 0], receive: 252).data
                == [0, 0, 0, 8, 0, 0, 0, 100, 2, 0, 2, 0])
        let mode6 = try await disk.run([0x1a, 0, 0x3f, 0, 192, 0], receive: 192).data
        #expect(Array(mode6[0..<7]) == [23, 0, 0x10, 0, 0x08, 18, 0x04] && mode6.count == 24)
        let mode10 = try await disk.run([0x5a, 0, 0x08, 0, 0, 0, 0, 0, 192, 0], receive: 192).data
        #expect(Array(mode10[0..<11]) == [0, 26, 0, 0x10, 0, 0, 0, 0, 0x08, 18, 0x04] && mode10.count == 28)
        #expect(
            try await disk.run([0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], receive: 16).data
                == [0, 0, 0, 8] + Array(repeating: 0, count: 12))
        #expect(await disk.host.control(0xa1, 0xfe, length: 1).bytes == [0])
        #expect(try await disk.run([0x2f, 0] + TestDisk.big(0, 4) + [0] + TestDisk.big(100, 2) + [0]).status == 0)
        await disk.host.close()
    }

    @Test func ejectAndLoad() async throws {
        let disk = try await TestDisk(blocks: 8)
        #expect(try await disk.run([0x1e, 0, 0, 0, 1, 0]).status == 0)
        #expect(try await disk.run([0x1b, 0, 0, 0, 2, 0]).status == 1)
        #expect(try await disk.sense() == [5, 0x53, 2])
        #expect(try await disk.run([0x1e, 0, 0, 0, 0, 0]).status == 0)
        #expect(try await disk.run([0x1b, 0, 0, 0, 2, 0]).status == 0)
        #expect(try await disk.run([0, 0, 0, 0, 0, 0]).status == 1)
        #expect(try await disk.sense() == [2, 0x3a, 0])
        #expect(try await disk.run([0x1b, 0, 0, 0, 3, 0]).status == 0)
        #expect(try await disk.run([0, 0, 0, 0, 0, 0]).status == 0)
        await disk.host.close()
    }

    // MARK: - What fails

    @Test func aProtectedDiskRefusesWrites() async throws {
        let disk = try await TestDisk(blocks: 8, options: ",readonly")
        let content = try disk.content
        let result = try await disk.run(TestDisk.write10(0, 1), send: Array(repeating: 1, count: 512))
        #expect(result == .init(dataStatus: .stall, status: 1, residue: 512))
        #expect(try await disk.sense() == [7, 0x27, 0])
        #expect(try await disk.run([0x1a, 0, 0x3f, 0, 192, 0], receive: 192).data[2] == 0x90)
        #expect(try await disk.run(TestDisk.read10(0, 1), receive: 512).data == Array(content[0..<512]))
        #expect(try disk.content == content)
        await disk.host.close()
    }

    @Test func blocksBehindTheEndAreRefused() async throws {
        let disk = try await TestDisk(blocks: 8)
        for (first, count) in [(8, 1), (7, 2), (0xffff_ffff, 1), (0, 9)] {
            let result = try await disk.run(TestDisk.read10(UInt64(first), UInt64(count)), receive: count * 512)
            #expect(result == .init(dataStatus: .stall, status: 1, residue: UInt32(count * 512)))
            #expect(try await disk.sense() == [5, 0x21, 0])
        }
        let huge = [0x88, 0] + TestDisk.big(.max, 8) + TestDisk.big(0xffff_ffff, 4) + [0, 0]
        #expect(try await disk.run(huge, receive: 512).status == 1)
        #expect(try await disk.sense() == [5, 0x21, 0])
        // Sense is for one failure.
        #expect(try await disk.sense() == [0, 0, 0])
        await disk.host.close()
    }

    @Test func unknownCommandsAreRefused() async throws {
        let disk = try await TestDisk(blocks: 8)
        #expect(try await disk.run([0xc0, 0, 0, 0, 0, 0]).status == 1)
        #expect(try await disk.sense() == [5, 0x20, 0])
        #expect(try await disk.run([0x9e, 0x11], receive: 32).status == 1)
        #expect(try await disk.sense() == [5, 0x24, 0])
        await disk.host.close()
    }

    @Test func anImageThatWasCutIsAMediumError() async throws {
        let disk = try await TestDisk(blocks: 64)
        try FileHandle(forWritingTo: disk.image).truncate(atOffset: 10 * 512)
        let result = try await disk.run(TestDisk.read10(8, 4), receive: 2048)
        #expect(result.dataStatus == .stall && result.status == 1 && result.residue == 2048)
        #expect(try await disk.sense() == [3, 0x11, 0])
        #expect(try await disk.run(TestDisk.read10(0, 1), receive: 512).status == 0)
        await disk.host.close()
    }

    // MARK: - Images that can't be

    @Test func imagesThatCanNotBeAreNamedWithARemedy() async throws {
        let image = try TestDisk.makeImage([1, 2, 3])
        let directory = image.deletingLastPathComponent()
        defer { try? FileManager.default.removeItem(at: directory) }
        let empty = directory.appendingPathComponent("empty")
        try Data().write(to: empty)
        let cases: [(String, USBError.Code, String)] = [
            (directory.appendingPathComponent("none").path, .notFound, "doesn't exist"),
            (directory.path, .invalid, "a directory"),
            ("/dev/null", .invalid, "no regular file"),
            (image.path, .invalid, "3 bytes"),
            (empty.path, .invalid, "0 bytes"),
        ]
        for (path, code, words) in cases {
            #expect { try EmulationSource().add(EmulationSpecification(parsing: "disk=\(path)")) } throws: { error in
                guard let error = error as? USBError else { return false }
                return error.code == code && error.message.contains(words) && error.message.contains(path)
                    && error.remedy != nil
            }
        }
    }

    @Test func anImageThatIsInUseIsRefusedUntilItsDiskIsUnplugged() async throws {
        let disk = try await TestDisk(blocks: 8)
        let specification = try EmulationSpecification(parsing: "disk=\(disk.image.path),name=other")
        #expect { try EmulationSource().add(specification) } throws: { ($0 as? USBError)?.code == .busy }
        await disk.host.close()
        try disk.host.source.remove(disk.host.record.id)
    }

    @Test func anImageIsFreeAtOnceWhenItsDiskIsUnplugged() async throws {
        let image = try TestDisk.makeImage(TestDisk.pattern(blocks: 8))
        defer { try? FileManager.default.removeItem(at: image.deletingLastPathComponent()) }
        let source = EmulationSource()
        for _ in 0..<20 {
            let host = try await TestHost("disk=\(image.path)", source: source)
            // It needs the disk's own thread, which is then there and waits for more.
            await host.send(0x02, TestDisk.wrapper(1, 512, false, TestDisk.write10(0, 1, durable: true)))
            #expect(await host.send(0x02, Array(repeating: 1, count: 512)).status == .success)
            try source.remove(host.record.id)
            // The guest still has the old one open.
            let next = try source.add(EmulationSpecification(parsing: "disk=\(image.path)"))
            #expect(next.map(\.id) == [host.record.id])
            try source.remove(host.record.id)
            await host.close()
        }
    }

    @Test func oneImageServesManyReadOnlyDisks() throws {
        let image = try TestDisk.makeImage(TestDisk.pattern(blocks: 8))
        defer { try? FileManager.default.removeItem(at: image.deletingLastPathComponent()) }
        let specification = try EmulationSpecification(parsing: "disk=\(image.path),readonly,count=3")
        #expect(
            try EmulationSource().add(specification).map(\.id.rawValue) == ["emu-disk-1", "emu-disk-2", "emu-disk-3"])
    }

    @Test func aFileThatNobodyMayWriteIsProtected() async throws {
        let image = try TestDisk.makeImage(TestDisk.pattern(blocks: 8))
        defer { try? FileManager.default.removeItem(at: image.deletingLastPathComponent()) }
        try FileManager.default.setAttributes([.posixPermissions: 0o444], ofItemAtPath: image.path)
        let host = try await TestHost("disk=\(image.path)")
        await host.send(0x02, TestDisk.wrapper(1, 192, true, [0x1a, 0, 0x3f, 0, 192, 0]))
        #expect(await host.receive(0x81, 192).bytes[2] == 0x90)
        #expect(await host.receive(0x81, 13).bytes[12] == 0)
        await host.close()
    }
}
