// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

@Suite struct KeyboardTests {
    @Test func helloWorldArrivesAsPressesAndReleases() async throws {
        let host = try await TestHost("keyboard")
        try host.source.type("Hello, World!", on: host.record.id)
        // Modifier and usage (HID Usage Tables, page 7).
        let strokes: [(UInt8, UInt8)] = [
            (2, 0x0b), (0, 0x08), (0, 0x0f), (0, 0x0f), (0, 0x12), (0, 0x36), (0, 0x2c),
            (2, 0x1a), (0, 0x12), (0, 0x15), (0, 0x0f), (0, 0x07), (2, 0x1e),
        ]
        for (modifiers, usage) in strokes {
            #expect(await host.receive(0x81, 8).bytes == [modifiers, 0, usage, 0, 0, 0, 0, 0])
            #expect(await host.receive(0x81, 8).bytes == Array(repeating: 0, count: 8))
        }
        await host.close()
    }

    @Test func everyPrintableCharacterHasItsOwnKey() {
        let strokes = (UInt8(0x20)..<0x7f).map { KeyboardLayout.stroke(for: Character(UnicodeScalar($0))) }
        #expect(strokes.allSatisfy { $0 != nil })
        #expect(Set(strokes.map { "\(String(describing: $0))" }).count == 95)
        let samples: [(Character, UInt8, Bool)] = [
            ("0", 0x27, false), (")", 0x27, true), ("9", 0x26, false), ("(", 0x26, true), ("\n", 0x28, false),
            ("\t", 0x2b, false), ("-", 0x2d, false), ("|", 0x31, true), (";", 0x33, false), ("~", 0x35, true),
            ("/", 0x38, false), ("?", 0x38, true), ("z", 0x1d, false), ("\u{1b}", 0x29, false), ("\u{8}", 0x2a, false),
        ]
        for (character, usage, isShifted) in samples {
            let stroke = KeyboardLayout.stroke(for: character)
            #expect(stroke?.usage == usage && stroke?.isShifted == isShifted, "\(character)")
        }
    }

    @Test func aReaderThatWaitsGetsTheKeyWhenItIsTyped() async throws {
        let host = try await TestHost("keyboard")
        let (reader, _) = host.startReceive(0x81, 8)
        #expect(reader.completions.isEmpty)
        try host.source.type("a", on: host.record.id)
        #expect(await reader.wait(for: 1)[0].bytes == [0, 0, 4, 0, 0, 0, 0, 0])
        await host.close()
    }

    @Test func aCharacterWithoutAKeyIsNamedAndNothingIsTyped() async throws {
        let host = try await TestHost("keyboard")
        #expect { try host.source.type("a\u{e4}", on: host.record.id) } throws: { error in
            guard let error = error as? USBError else { return false }
            return error.code == .invalid && error.message.contains("U+E4")
        }
        let (reader, token) = host.startReceive(0x81, 8)
        #expect(reader.completions.isEmpty)
        host.device.cancel(token)
        await reader.wait(for: 1)
        await host.close()
    }

    @Test func moreThanIsKeptIsRefused() async throws {
        let host = try await TestHost("keyboard")
        try host.source.type(String(repeating: "a", count: KeyboardModel.queueLimit / 2), on: host.record.id)
        #expect { try host.source.type("b", on: host.record.id) } throws: { ($0 as? USBError)?.code == .busy }
        await host.close()
    }

    @Test func onlyAKeyboardCanBeTypedOn() async throws {
        let host = try await TestHost("zero")
        #expect { try host.source.type("a", on: host.record.id) } throws: { ($0 as? USBError)?.code == .unsupported }
        #expect { try host.source.type("a", on: DeviceID("emu-none")) } throws: {
            ($0 as? USBError)?.code == .notFound
        }
        await host.close()
    }

    @Test func reportAndHIDDescriptorsAgree() async throws {
        let host = try await TestHost("keyboard")
        let hid = await host.control(0x81, 6, 0x2100, 0, length: 64).bytes
        let report = await host.control(0x81, 6, 0x2200, 0, length: 1024).bytes
        #expect(hid.count == 9 && Int(hid[7]) == report.count)
        #expect(report.first == 0x05 && report.last == 0xc0)
        let configuration = await host.descriptor(2).bytes
        #expect(Array(configuration[18..<27]) == hid)
        #expect(await host.control(0x81, 6, 0x2300, 0, length: 8).status == .stall)
        #expect(await host.control(0x81, 6, 0x2200, 1, length: 8).status == .stall)
        await host.close()
    }

    @Test func classRequestsAreKept() async throws {
        let host = try await TestHost("keyboard")
        #expect(await host.control(0x21, 9, 0x0200, 0, data: [3]).status == .success)
        #expect(await host.control(0xa1, 1, 0x0200, 0, length: 1).bytes == [3])
        #expect(await host.control(0xa1, 1, 0x0100, 0, length: 8).bytes == Array(repeating: 0, count: 8))
        #expect(await host.control(0x21, 11, 0).status == .success)
        #expect(await host.control(0xa1, 3, length: 1).bytes == [0])
        #expect(await host.control(0xa1, 2, length: 1).bytes == [0])
        #expect(await host.control(0x21, 9, 0x0300, 0, data: [3]).status == .stall)
        #expect(await host.control(0x21, 11, 2).status == .stall)
        await host.close()
    }

    @Test func withAnIdleRateTheReportIsRepeated() async throws {
        let host = try await TestHost("keyboard")
        #expect(await host.control(0x21, 10, 0x0300).status == .success)
        let clock = ContinuousClock()
        let start = clock.now
        for _ in 0..<3 { #expect(await host.receive(0x81, 8).bytes == Array(repeating: 0, count: 8)) }
        // Three times 12 ms, of which the first may be over.
        #expect(clock.now - start >= .milliseconds(24))
        await host.close()
    }
}
