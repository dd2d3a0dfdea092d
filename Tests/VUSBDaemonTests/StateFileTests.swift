// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import Testing
import VUSBControl
import VUSBCore

@testable import VUSBDaemon

@Suite(.timeLimit(.minutes(1))) struct StateFileTests {
    private let directory: TemporaryDirectory
    private let file: StateFile
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws {
        directory = try TemporaryDirectory()
        file = StateFile(directory: directory.path)
    }

    private func state(_ name: String) -> SavedState {
        var state = SavedState()
        state.guests = [GuestSpec(name: name, owner: "root", devices: ["0525:a4a0:\"\\\u{e4}"])]
        let device = DeviceIdentity(TestSource.record("emu-a", 0x525, 0xa4a0, serial: "S1"))
        let held = [GuestEntry.Held(device: device, byHand: true)]
        state.loaded = [SavedState.Loaded(guest: name, process: nil, held: held, released: [])]
        state.numbers = [SavedState.Number(guest: name, device: device, busNumber: 1, deviceNumber: 1)]
        return state
    }

    private func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }
    private func write(_ data: Data, _ path: String) throws { try data.write(to: URL(fileURLWithPath: path)) }

    @Test func withoutAFileTheStateIsEmpty() throws { #expect(try file.read(logger) == SavedState()) }

    @Test func whatWasWrittenIsRead() throws {
        try file.write(state("web1"))
        #expect(try file.read(logger) == state("web1"))
        try file.write(state("web2"))
        #expect(try file.read(logger) == state("web2"))
        let left = try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
        #expect(left == ["state.json", "state.json.previous"])
    }

    @Test func aFileCutShortAtAnyByteFallsBackToThePreviousCopy() throws {
        try file.write(state("web1"))
        try file.write(state("web2"))
        let whole = try bytes(file.path)
        let previous = try bytes(file.previousPath)
        for count in 0..<whole.count - 1 {
            // Each fallback makes the previous copy the first one.
            try write(previous, file.previousPath)
            try write(whole.prefix(count), file.path)
            #expect(JSONScan.firstError(in: Array(whole.prefix(count))) == count, "cut at \(count)")
            #expect(try file.read(logger) == state("web1"), "cut at \(count)")
        }
        // Only the newline at the end may be missing.
        try write(whole.dropLast(), file.path)
        #expect(try file.read(logger) == state("web2"))
    }

    @Test func aChangedByteFallsBackToThePreviousCopy() throws {
        try file.write(state("web1"))
        try file.write(state("web2"))
        let whole = try bytes(file.path)
        let previous = try bytes(file.previousPath)
        for index in whole.indices.dropLast() {
            var changed = whole
            changed[index] ^= 0x01
            try write(previous, file.previousPath)
            try write(changed, file.path)
            // Only the version isn't in the checksum, and an older one is read.
            let isOlder = String(decoding: changed, as: UTF8.self).contains("\"version\":0")
            #expect(try file.read(logger) == state(isOlder ? "web2" : "web1"), "changed at \(index)")
        }
    }

    @Test func twoBadCopiesAreRefusedWithBothNamedAndTheRemedy() throws {
        try file.write(state("web1"))
        try file.write(state("web2"))
        try write(Data(try bytes(file.path).prefix(40)), file.path)
        try write(Data("{]".utf8), file.previousPath)
        let error = #expect(throws: USBError.self) { try file.read(logger) }
        #expect(error?.message.contains("\(file.path) is cut short at byte 40") == true)
        #expect(error?.message.contains("\(file.previousPath) is no JSON from byte 1") == true)
        #expect(error?.remedy?.contains("move both away") == true)
    }

    @Test func aNewerVersionIsNotTouched() throws {
        try write(Data("{\"version\":2,\"checksum\":\"\",\"state\":{}}".utf8), file.path)
        let error = #expect(throws: USBError.self) { try file.read(logger) }
        #expect(error?.code == .unsupported)
        #expect(error?.message.contains("has version 2") == true)
    }

    @Test func aMissingFileBesideAPreviousCopyFallsBack() throws {
        try file.write(state("web1"))
        try file.write(state("web2"))
        try FileManager.default.removeItem(atPath: file.path)
        #expect(try file.read(logger) == state("web1"))
    }

    @Test func aDirectoryThatCannotBeWrittenIsToldAndForgiven() async throws {
        let store = StateStore(StateFile(directory: directory.path + "/missing"), logger: logger)
        await store.save(SavedState(), revision: 1)
        let finding = await store.findings().first
        #expect(finding?.level == .error)
        #expect(finding?.summary.contains("missing") == true)
        #expect(finding?.remedy != nil)
    }

    @Test func ofManyStatesTheLastIsWritten() async throws {
        let store = StateStore(file, logger: logger)
        await withTaskGroup(of: Void.self) { group in
            for revision in 1...200 {
                group.addTask { await store.save(state("web\(revision)"), revision: UInt64(revision)) }
            }
        }
        #expect(try file.read(logger) == state("web200"))
        #expect(await store.findings().first?.level == .ok)
    }
}

@Suite struct JSONScanTests {
    @Test(arguments: ["{}", "[]", " {\"a\": [1, -2.5e3, true, false, null, \"x\\\"y\"]} ", "0"])
    func jsonHasNoError(text: String) { #expect(JSONScan.firstError(in: Array(text.utf8)) == nil) }

    @Test(arguments: [("", 0), ("{\"a\" 1}", 5), ("[1,]", 3), ("{} x", 3), ("tru", 3), ("\"a\nb\"", 2)])
    func theFirstWrongByteIsNamed(text: String, offset: Int) {
        #expect(JSONScan.firstError(in: Array(text.utf8)) == offset)
    }

    @Test func deepNestingIsAnErrorAndNoOverflow() {
        #expect(JSONScan.firstError(in: Array(repeating: UInt8(ascii: "["), count: 100_000)) == 64)
    }
}
