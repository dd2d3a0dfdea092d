// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Runs a script in a guest and takes its answer apart. The guest is nobody's friend: lines are counted and cut, and
/// what doesn't have the form of a line is left out.
struct GuestAnswer: Sendable {
    struct Line: Sendable, Equatable {
        let keyword: String
        /// Printable, at most `maximumLength` characters.
        let value: String
    }

    let lines: [Line]

    private static let maximumSize = 256 << 10
    private static let maximumLines = 2000
    static let maximumLength = 16 << 10

    /// - Parameter name: the script's first line, with the version of its form.
    /// - Returns: nil unless the answer is whole.
    init?(parsing bytes: [UInt8], of name: String) {
        guard bytes.count <= Self.maximumSize else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        // By the byte: a carriage return before a newline is one Character with it.
        let all = text.utf8.split(separator: UInt8(ascii: "\n"), maxSplits: Self.maximumLines)
        let parsed = all.prefix(Self.maximumLines).map { Self.line(Substring($0)) }
        guard parsed.first?.keyword == name, parsed.last?.keyword == "end" else { return nil }
        lines = Array(parsed.dropFirst().dropLast())
    }

    private static func line(_ text: Substring) -> Line {
        let parts = text.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        let value = parts.count > 1 ? PlainText.line(String(parts[1]), limit: maximumLength) : ""
        return Line(keyword: String(parts[0]), value: value)
    }

    /// The first value of that kind; nil where it's empty.
    func value(_ keyword: String) -> String? {
        lines.first { $0.keyword == keyword && !$0.value.isEmpty }?.value
    }

    func values(_ keyword: String) -> [String] { lines.filter { $0.keyword == keyword }.map(\.value) }
}

extension GuestKernel {
    /// Runs a script by the guest's shell.
    /// - Parameter arguments: its positional parameters behind `$1`.
    func shell(_ script: String, _ arguments: [String], limit: Duration) async throws(USBError) -> ProgramResult {
        do throws(USBError) {
            return try await run("/bin/sh", ["-c", script, "vusb", ""] + arguments, limit: limit)
        } catch  where error.code == .notFound {
            throw USBError(
                .notFound, "\(description) has no /bin/sh: \(error.message)",
                remedy: "install a shell there, of a busybox for instance"
            )
        }
    }

    /// - Throws: `io` where the answer isn't one.
    func ask(
        _ script: String, named name: String, _ arguments: [String], limit: Duration
    ) async throws(USBError) -> GuestAnswer {
        let result = try await shell(script, arguments, limit: limit)
        guard let answer = GuestAnswer(parsing: result.output, of: name) else {
            let said = PlainText.lastLines(result.errors.isEmpty ? result.output : result.errors)
            throw USBError(
                .io, "\(description) gave no whole answer\(said.isEmpty ? "" : ", it said: \(said)")",
                remedy: "see whether /bin/sh there is a POSIX shell and /proc and /sys are mounted"
            )
        }
        return answer
    }
}
