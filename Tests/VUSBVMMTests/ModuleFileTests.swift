// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@testable import VUSBVMM

@Suite struct ModuleFileTests {
    private func parse(_ bytes: [UInt8]) throws(USBError) -> ModuleFile {
        try ModuleFile(parsing: bytes.span, path: "/x.ko")
    }

    @Test func whatAModuleSaysOfItselfIsRead() throws {
        let file = try parse(ModuleBytes("vusb_hcd", depends: "vusb_channel,usbcore").bytes)
        #expect(file.name == "vusb_hcd")
        #expect(file.version == "0.1.0")
        #expect(file.sourceVersion == "AAAA")
        #expect(file.depends == ["vusb_channel", "usbcore"])
        #expect(file.vermagic.release == "6.1.0-56-amd64")
        #expect(file.vermagic.flags == ["SMP", "preempt", "mod_unload", "modversions"])
        #expect(file.machine == 62)
        #expect(!file.isSigned)
    }

    @Test func aSignatureIsSeenAtTheEndOnly() throws {
        var module = ModuleBytes("vusb_hcd")
        module.isSigned = true
        #expect(try parse(module.bytes).isSigned)
        #expect(try !parse(module.bytes + [0]).isSigned)
    }

    @Test func aModuleThatDependsOnNothingHasNoDependencies() throws {
        #expect(try parse(ModuleBytes("vusb_channel", depends: "").bytes).depends.isEmpty)
    }

    @Test func ofTwoEntriesWithOneKeyTheFirstCounts() throws {
        var module = ModuleBytes("vusb_hcd")
        module.entries.append("vermagic=9.9 other")
        #expect(try parse(module.bytes).vermagic.release == "6.1.0-56-amd64")
    }

    @Test func controlCharactersInAVersionDoNotReachATerminal() throws {
        let file = try parse(ModuleBytes("vusb_hcd", version: "1\u{1b}[2J").bytes)
        #expect(file.version == "1?[2J")
    }

    @Test(arguments: ["", "a b", "../x", "-a", "a/b", String(repeating: "a", count: 56)])
    func aNameThatNoModuleHasIsRefused(name: String) {
        let error = #expect(throws: USBError.self) { try parse(ModuleBytes(name).bytes) }
        #expect(error?.code == .invalid)
        #expect(error?.message.contains("/x.ko") == true)
    }

    @Test(arguments: ["", "../6.1 SMP", "6.1\u{7} SMP", String(repeating: "6", count: 300), "a/b SMP"])
    func aVermagicThatNoKernelHasIsRefused(vermagic: String) {
        #expect(throws: USBError.self) { try parse(ModuleBytes("vusb_hcd", vermagic: vermagic).bytes) }
    }

    @Test func aDependencyThatIsAnOptionOfAProgramIsRefused() {
        #expect(throws: USBError.self) { try parse(ModuleBytes("vusb_hcd", depends: "usbcore,--force").bytes) }
    }

    @Test func aFileThatIsCutShortAnywhereIsRefused() throws {
        let bytes = ModuleBytes("vusb_hcd").bytes
        for count in 0..<bytes.count {
            #expect(throws: USBError.self) { try parse(Array(bytes[..<count])) }
        }
        #expect(try parse(bytes).name == "vusb_hcd")
    }

    /// Offset and size of the table and of the sections, with the values at which sums overflow.
    @Test(arguments: [UInt64(1) << 63, .max, .max - 63, 1 << 62, 1 << 31])
    func anOffsetOrSizeBeyondTheFileIsRefused(value: UInt64) throws {
        let good = ModuleBytes("vusb_hcd").bytes
        let table = good.count - 3 * 64
        for position in [40, table + 64 + 24, table + 64 + 32, table + 128 + 24, table + 128 + 32] {
            var bytes = good
            for index in 0..<8 { bytes[position + index] = UInt8(truncatingIfNeeded: value >> (index * 8)) }
            #expect(throws: USBError.self) { try parse(bytes) }
        }
    }

    @Test func noSingleWrongByteCrashesIt() {
        let good = ModuleBytes("vusb_hcd").bytes
        var refused = 0
        for position in good.indices {
            for value: UInt8 in [0, 1, 0x7f, 0x80, 0xff] {
                var bytes = good
                bytes[position] = value
                if (try? parse(bytes)) == nil { refused += 1 }
            }
        }
        #expect(refused > 0)
    }

    @Test(arguments: [("ELF32", 4, UInt8(1)), ("big-endian", 5, 2), ("a program", 16, 2), ("not ELF", 0, 0)])
    func aFileOfAnotherKindIsRefused(kind: String, position: Int, value: UInt8) {
        var bytes = ModuleBytes("vusb_hcd").bytes
        bytes[position] = value
        let error = #expect(throws: USBError.self) { try parse(bytes) }
        #expect(error?.message == "/x.ko isn't a 64-bit little-endian kernel module")
    }

    @Test func aModinfoWithoutBytesInTheFileIsRefused() {
        var bytes = ModuleBytes("vusb_hcd").bytes
        // SHT_NOBITS
        bytes[bytes.count - 2 * 64 + 4] = 8
        let error = #expect(throws: USBError.self) { try parse(bytes) }
        #expect(error?.message == "/x.ko has no readable section .modinfo")
    }
}

@Suite struct PlainTextTests {
    @Test func whatCouldSteerATerminalIsReplaced() {
        #expect(PlainText.line("a\u{1b}[31m\u{202e}b\u{9b}c\r\n") == "a?[31m?b?c??")
        #expect(PlainText.line("Gr\u{fc}\u{df}e \u{65e5}") == "Gr\u{fc}\u{df}e \u{65e5}")
    }

    @Test func aLongLineIsCut() { #expect(PlainText.line(String(repeating: "x", count: 1000)).count == 300) }

    @Test func ofAnOutputTheLastLinesAreTold() {
        #expect(PlainText.lastLines(Array("1\n 2 \n\n3\r\n4\n".utf8)) == "2 / 3 / 4")
        #expect(PlainText.lastLines([]) == "")
    }
}
