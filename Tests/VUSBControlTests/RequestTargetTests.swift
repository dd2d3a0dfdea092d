// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBControl

@Suite struct RequestTargetTests {
    @Test func pathAndQueryAreDecodedOnce() throws {
        let target = try RequestTarget("/v1/devices/a%2Fb%3a%25?after=1&name=a+b%2B&flag&=x")
        #expect(target.path == ["v1", "devices", "a/b:%"])
        #expect(target.query.map(\.name) == ["after", "name", "flag", ""])
        #expect(target.query.map(\.value) == ["1", "a b+", "", "x"])
    }

    @Test(arguments: [("", 0), ("/", 1), ("*", 0), ("/a/", 2), ("//", 2), ("/a?", 1), ("/a?b?c=d", 1)])
    func oddTargetsHaveSoManySegments(target: String, count: Int) throws {
        #expect(try RequestTarget(target).path.count == count)
    }

    @Test(arguments: ["/%", "/%a", "/%g0", "/a?%=1", "/a?b=%f", "/%00", "/a?b=%00", "/%e9", "/%ed%a0%80", "/a?%ff=1"])
    func whatNoNameHasIsMalformed(target: String) {
        let problem = #expect(throws: Problem.self) { try RequestTarget(target) }
        #expect(problem?.code == .malformed)
    }

    @Test func percentEncodingIsUndoneByDecoding() throws {
        let name = String(String.UnicodeScalarView((1...0x2ff).compactMap(Unicode.Scalar.init)))
        #expect(try RequestTarget("/" + PercentEncoding.encode(name)).path == [name])
        #expect(PercentEncoding.encode("a-b.c_d~:/%\u{7}") == "a-b.c_d~%3A%2F%25%07")
    }

    @Test func numbersHaveNoSignsNorLeadingZeros() {
        #expect(Rules.integer("0", as: Int.self) == 0)
        #expect(Rules.integer("120", as: Int.self) == 120)
        for text in ["", "-1", "+1", "00", "01", "1 ", "1.0", "9223372036854775808", "\u{661}"] {
            #expect(Rules.integer(text, as: Int.self) == nil, "\(text)")
        }
    }
}
