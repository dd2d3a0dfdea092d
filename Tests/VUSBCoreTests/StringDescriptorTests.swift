// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@Suite("String descriptors")
struct StringDescriptorTests {
    @Test(
        "Texts",
        arguments: [
            ([4, 3, 0x41, 0x00], "A"),
            ([2, 3], ""),
            ([6, 3, 0xe9, 0x00, 0x42, 0x30], "\u{e9}\u{3042}"),
            // A surrogate pair.
            ([6, 3, 0x3d, 0xd8, 0x00, 0xde], "\u{1f600}"),
            // A high one alone, a low one alone, the two in the wrong order.
            ([6, 3, 0x3d, 0xd8, 0x41, 0x00], "\u{fffd}A"),
            ([4, 3, 0x00, 0xde], "\u{fffd}"),
            ([6, 3, 0x00, 0xde, 0x3d, 0xd8], "\u{fffd}\u{fffd}"),
            // Half a code unit at the end.
            ([5, 3, 0x41, 0x00, 0x42], "A"),
            ([3, 3, 0x41], ""),
            // It ends at a NUL.
            ([8, 3, 0x41, 0x00, 0x00, 0x00, 0x42, 0x00], "A"),
            // Line feed, escape, DEL, C1.
            ([10, 3, 0x0a, 0x00, 0x1b, 0x00, 0x7f, 0x00, 0x9b, 0x00], "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            // Bytes behind bLength.
            ([4, 3, 0x41, 0x00, 0x42, 0x00], "A"),
        ] as [([UInt8], String)]
    )
    func texts(bytes: [UInt8], text: String) throws {
        #expect(try StringDescriptor(parsing: bytes).text == text)
    }

    @Test(
        "What isn't a string descriptor is refused",
        arguments: [
            ([], 0), ([2], 0), ([0, 3], 0), ([1, 3], 0), ([4, 3, 0x41], 0), ([255, 3, 0x41, 0x00], 0),
            ([4, 2, 0x41, 0x00], 1),
        ] as [([UInt8], Int)]
    )
    func refusals(bytes: [UInt8], offset: Int) {
        let error = #expect(throws: DescriptorError.self) { try StringDescriptor(parsing: bytes) }
        #expect(error?.offset == offset)
    }

    @Test func languagesOfStringZero() throws {
        #expect(try StringDescriptor.languages(parsing: [6, 3, 0x09, 0x04, 0x07, 0x04]) == [0x0409, 0x0407])
        #expect(try StringDescriptor.languages(parsing: [2, 3]) == [])
    }

    @Test(arguments: ["", "Gadget Zero", "\u{1f600}\u{e9}"])
    func whatIsWrittenIsRead(text: String) throws {
        #expect(try StringDescriptor(parsing: StringDescriptor(text: text).bytes).text == text)
    }

    @Test func longTextIsCutAt126CodeUnits() throws {
        let bytes = StringDescriptor(text: String(repeating: "x", count: 300)).bytes
        #expect(bytes.count == 254)
        #expect(try StringDescriptor(parsing: bytes).text == String(repeating: "x", count: 126))
    }
}
