// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

/// An image file in a directory of its own, and the bulk-only host driver of the tests.
final class TestDisk {
    let host: TestHost
    let image: URL
    private var tag: UInt32 = 0x1234_5600

    /// - Parameters:
    ///   - content: the image's bytes.
    ///   - options: behind `disk=IMAGE`.
    init(_ content: [UInt8], options: String = "") async throws {
        image = try Self.makeImage(content)
        host = try await TestHost("disk=\(image.path)\(options)")
    }

    convenience init(blocks: Int, options: String = "") async throws {
        try await self.init(Self.pattern(blocks: blocks), options: options)
    }

    deinit {
        // A directory that is left over in the temporary files is harmless.
        try? FileManager.default.removeItem(at: image.deletingLastPathComponent())
    }

    static func makeImage(_ content: [UInt8]) throws -> URL {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("vusb-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let image = directory.appendingPathComponent("disk.img")
        try Data(content).write(to: image)
        return image
    }

    /// No two blocks alike.
    static func pattern(blocks: Int) -> [UInt8] {
        (0..<blocks * 512).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 / 512 &* 13) }
    }

    var content: [UInt8] { get throws { Array(try Data(contentsOf: image)) } }

    // MARK: - Bulk-only transport

    struct Result: Equatable {
        var data: [UInt8] = []
        /// How the data stage ended; nil without one.
        var dataStatus: URBStatus?
        var status: UInt8
        var residue: UInt32
    }

    static func wrapper(_ tag: UInt32, _ length: UInt32, _ isIn: Bool, _ command: [UInt8]) -> [UInt8] {
        let little = { (value: UInt32) in (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) } }
        let padding = [UInt8](repeating: 0, count: 16 - command.count)
        return Array("USBC".utf8) + little(tag) + little(length) + [isIn ? 0x80 : 0, 0, UInt8(command.count)] + command
            + padding
    }

    /// A command as usb-storage does it: wrapper, data, status; a stall is cleared, and the status read again.
    func run(_ command: [UInt8], receive count: Int) async throws -> Result {
        await sendWrapper(command, UInt32(count), isIn: true)
        var result = Result(status: 0xff, residue: 0)
        if count > 0 {
            let data = await host.receive(0x81, count)
            (result.data, result.dataStatus) = (data.bytes, data.status)
            if data.status == .stall { await host.clearHalt(0x81) }
        }
        return try await readStatus(result)
    }

    func run(_ command: [UInt8], send data: [UInt8] = []) async throws -> Result {
        await sendWrapper(command, UInt32(data.count), isIn: false)
        var result = Result(status: 0xff, residue: 0)
        if !data.isEmpty {
            result.dataStatus = await host.send(0x02, data).status
            if result.dataStatus == .stall { await host.clearHalt(0x02) }
        }
        return try await readStatus(result)
    }

    func sendWrapper(_ command: [UInt8], _ length: UInt32, isIn: Bool) async {
        tag += 1
        let completion = await host.send(0x02, Self.wrapper(tag, length, isIn, command))
        #expect(completion.status == .success && completion.actualLength == 31)
    }

    func readStatus(_ partial: Result) async throws -> Result {
        var completion = await host.receive(0x81, 13)
        if completion.status == .stall {
            await host.clearHalt(0x81)
            completion = await host.receive(0x81, 13)
        }
        let bytes = completion.bytes
        try #require(completion.status == .success && bytes.count == 13)
        let word = { (start: Int) in (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[start + $1]) << UInt32(8 * $1) } }
        #expect(Array(bytes[0..<4]) == Array("USBS".utf8) && word(4) == tag)
        // After a stall of OUT, the host goes on with it cleared.
        if await host.isHalted(0x02) { await host.clearHalt(0x02) }
        var result = partial
        (result.status, result.residue) = (bytes[12], word(8))
        return result
    }

    /// Class request 0xff and both halts cleared: the reset recovery of 5.3.4.
    func resetRecovery() async {
        #expect(await host.control(0x21, 0xff).status == .success)
        #expect(await host.clearHalt(0x81).status == .success)
        #expect(await host.clearHalt(0x02).status == .success)
    }

    // MARK: - Commands

    static func big(_ value: UInt64, _ bytes: Int) -> [UInt8] {
        (0..<bytes).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (bytes - 1 - $0))) }
    }

    static func read10(_ first: UInt64, _ count: UInt64) -> [UInt8] {
        [0x28, 0] + big(first, 4) + [0] + big(count, 2) + [0]
    }

    static func write10(_ first: UInt64, _ count: UInt64, durable: Bool = false) -> [UInt8] {
        [0x2a, durable ? 8 : 0] + big(first, 4) + [0] + big(count, 2) + [0]
    }

    /// Sense key, additional code and qualifier of the last failure.
    func sense() async throws -> [UInt8] {
        let result = try await run([3, 0, 0, 0, 18, 0], receive: 18)
        #expect(result.status == 0 && result.data.count == 18 && result.data[0] == 0x70)
        return [result.data[2], result.data[12], result.data[13]]
    }
}
