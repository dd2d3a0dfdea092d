// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Files in Tests/Fixtures.
///
/// A `.hex` file has bytes as pairs of hexadecimal digits with white space between them; `#` begins a comment that
/// runs to the end of the line. The first line says where the bytes came from.
package enum Fixture {
    /// Why a fixture can't be had; names the file.
    package struct LoadError: Error, CustomStringConvertible {
        package let description: String
    }

    package static let directory: String = {
        // <package>/Sources/VUSBTestSupport/Fixture.swift
        let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return package.appendingPathComponent("Tests/Fixtures").path
    }()

    /// Names of all files that end so, sorted.
    package static func names(suffix: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(suffix) }.sorted()
    }

    package static func bytes(_ name: String) throws -> [UInt8] {
        let text = try String(contentsOfFile: directory + "/" + name, encoding: .utf8)
        var bytes: [UInt8] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            for word in line.prefix(while: { $0 != "#" }).split(whereSeparator: \.isWhitespace) {
                guard word.count == 2, let byte = UInt8(word, radix: 16) else {
                    throw LoadError(description: "\(name): '\(word)' isn't a byte in hexadecimal")
                }
                bytes.append(byte)
            }
        }
        return bytes
    }
}
