// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBVMM

@Suite struct JSONValueTests {
    private func parse(_ text: String) -> JSONValue? { JSONValue(parsing: Array(text.utf8)) }

    @Test func allKindsOfValuesAreRead() {
        let text = #" {"a": [1, -2.5, 1e3, "x\n\u00e9\ud83d\ude00\/", true, false, null], "b": {} , "c": []} "#
        #expect(
            parse(text) == [
                "a": [
                    1, .number(-2.5), .number(1000), "x\n\u{e9}\u{1F600}/", true, false, .null,
                ], "b": [:], "c": [],
            ])
    }

    @Test(arguments: [
        "", " ", "{", "}", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "01", "-", "1.", ".5", "1e",
        "+1",
        "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\n\"", "nul",
        "truee",
        "1 2", "1e999", "NaN", "'a'", "[\"\\u00\"]",
    ]) func whatBreaksTheGrammarIsRefused(text: String) { #expect(parse(text) == nil) }

    @Test func bytesThatAreNotUTF8AreRefused() {
        #expect(JSONValue(parsing: Array("\"a".utf8) + [0xFF] + Array("\"".utf8)) == nil)
        #expect(JSONValue(parsing: [0x22, 0xC3, 0x22]) == nil)
        #expect(JSONValue(parsing: [0xFF]) == nil)
    }

    @Test func nestingIsBounded() {
        #expect(parse(String(repeating: "[", count: 63) + String(repeating: "]", count: 63)) != nil)
        #expect(parse(String(repeating: "[", count: 65) + String(repeating: "]", count: 65)) == nil)
        #expect(parse(String(repeating: "[", count: 1_000_000)) == nil)
    }

    @Test func theGreatestIntegersStayExactAndGreaterOnesAreNumbers() {
        #expect(parse("9223372036854775807") == .integer(.max))
        #expect(parse("-9223372036854775808") == .integer(.min))
        #expect(parse("9223372036854775808") == .number(9_223_372_036_854_775_808))
    }

    @Test func whatIsWrittenIsOneLineAndReadsAsTheSame() {
        let value: JSONValue = [
            "z": "a\"\\\n\u{1}\u{7f}\u{e9}\u{1F600}", "a": [1, .number(0.5), true, .null, [:], []],
        ]
        #expect(!value.bytes.contains(0x0A))
        #expect(JSONValue(parsing: value.bytes) == value)
    }
}

@Suite struct LineSplitterTests {
    private func lines(_ chunks: [String], limit: Int = 8) -> [LineSplitter.Line] {
        var splitter = LineSplitter(limit: limit)
        var lines: [LineSplitter.Line] = []
        for chunk in chunks {
            splitter.append(Array(chunk.utf8))
            while let line = splitter.next() { lines.append(line) }
        }
        return lines
    }

    private func bytes(_ text: String) -> LineSplitter.Line { .bytes(Array(text.utf8)) }

    @Test func linesComeWholeHoweverTheBytesWereCut() {
        let text = "one\ntwo\r\n\n\r\nthree\n"
        let expected = [bytes("one"), bytes("two"), bytes("three")]
        #expect(lines([text]) == expected)
        #expect(lines(text.map { String($0) }) == expected)
    }

    @Test func aLineOfTheLimitIsTakenAndALongerOneIsDroppedToItsEnd() {
        #expect(lines(["12345678\n123456789\nok\n"]) == [bytes("12345678"), .overlong, bytes("ok")])
        #expect(lines(["12345", "6789", "0", "abc\nok\n"]) == [.overlong, bytes("ok")])
    }

    @Test func anEndlessLineIsToldAgainAndAgainAndNeverKept() {
        let chunks = Array(repeating: "xxxxx", count: 8)
        #expect(lines(chunks + ["\nok\n"]) == Array(repeating: .overlong, count: 4) + [bytes("ok")])
    }

    @Test func whatIsLeftOfALineIsKnown() {
        var splitter = LineSplitter(limit: 8)
        #expect(splitter.isEmpty)
        splitter.append(Array("a\nb".utf8))
        #expect(splitter.next() == .bytes([0x61]))
        #expect(!splitter.isEmpty)
        #expect(splitter.next() == nil)
        splitter.append([0x0A])
        #expect(splitter.next() == .bytes([0x62]))
        #expect(splitter.isEmpty)
    }
}
