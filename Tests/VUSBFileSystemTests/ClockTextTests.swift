// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBFileSystem

extension ClockLine {
    var text: String {
        var text = ""
        unsafe withBytes { bytes in unsafe text = String(decoding: bytes, as: UTF8.self) }
        return text
    }
}

@Suite("What is written to and read from a clock")
struct ClockTextTests {
    @Test(
        "a number in the bounds is a period, with a newline or without",
        arguments: [
            ("100", 100_000), ("100\n", 100_000), ("1000", 1_000_000), ("60000000\n", 60_000_000_000),
            ("0000000000000000000000000000250", 250_000),
        ] as [(String, UInt64)])
    func period(text: String, nanoseconds: UInt64) {
        #expect(ClockCommand(Array(text.utf8)) == .run(period: nanoseconds))
    }

    @Test("0 stops", arguments: ["0", "0\n", "000"])
    func stop(text: String) {
        #expect(ClockCommand(Array(text.utf8)) == .stop)
    }

    @Test(
        "K2: anything else is nothing",
        arguments: [
            "", "\n", "1", "99", "60000001", "18446744073709551716", "99999999999999999999999999", "-100", "+100",
            " 100", "100 ", "100\n\n", "100\r\n", "1e3", "0x100", "100\0", "100 us", "1000.0",
            "000000000000000000000000000000250\n",
        ])
    func refused(text: String) {
        #expect(ClockCommand(Array(text.utf8)) == nil)
    }

    @Test("K2: what isn't text is nothing")
    func noText() {
        for byte in UInt8.min...UInt8.max where !(48...57).contains(byte) && byte != 10 {
            #expect(ClockCommand([49, 48, 48, byte]) == nil)
        }
    }

    @Test(
        "a line is the time, a frame that nobody knows and the missed periods",
        arguments: [
            (0, 0, "0 -1 0\n"), (18_351_204_400_713, 0, "18351204400713 -1 0\n"), (10, 9, "10 -1 9\n"),
            (99, 100, "99 -1 100\n"), (.max, .max, "18446744073709551615 -1 18446744073709551615\n"),
        ] as [(UInt64, UInt64, String)])
    func line(time: UInt64, missed: UInt64, text: String) {
        let line = ClockLine(time: time, missed: missed)
        #expect(line.text == text)
        #expect(line.count == text.utf8.count)
    }
}
