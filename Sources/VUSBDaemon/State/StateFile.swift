// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
internal import Logging
internal import VUSBCore

/// The saved state on disk: `state.json`, and `state.json.previous`, the copy before it.
///
/// At every moment one of the two is whole: a new one is written beside, brought to the disk, and renamed. A file that
/// was cut short or changed is recognised by its syntax and its checksum, and the other one is used.
struct StateFile: Sendable {
    static let version = 1

    let directory: String

    var path: String { directory + "/state.json" }
    var previousPath: String { path + ".previous" }
    /// A bad file is kept for people to look at.
    var damagedPath: String { path + ".damaged" }
    private var newPath: String { path + ".new" }

    /// What is in the file.
    private struct Contents: Codable {
        var version: Int
        /// FNV-1a of the state's canonical encoding, hexadecimal.
        var checksum: String
        var state: SavedState
    }

    private struct VersionOnly: Codable { var version: Int }

    private static let encoder: JSONEncoder = {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }()

    // MARK: - Reading

    /// The state, or an empty one where there is no file yet.
    /// - Throws: `invalid` where neither copy is good, naming both files and the bytes.
    func read(_ logger: Logger) throws(USBError) -> SavedState {
        let isThere = FileManager.default.fileExists(atPath: path)
        if !isThere, !FileManager.default.fileExists(atPath: previousPath) { return SavedState() }
        let reason: String
        switch Self.read(path) {
        case .success(let state): return state
        case .failure(let error):
            guard error.code != .unsupported else { throw error }
            reason = error.message
        }
        switch Self.read(previousPath) {
        case .success(let state):
            logger.error(
                "state file is bad, its previous copy is used",
                metadata: ["reason": "\(reason)", "kept-as": "\(damagedPath)"]
            )
            try putBackPrevious()
            return state
        case .failure(let error):
            guard error.code != .unsupported else { throw error }
            throw USBError(
                .invalid,
                "no good state file: \(reason); \(error.message)",
                remedy: "move both away to start without guests and attachments, or put back a good copy"
            )
        }
    }

    private static func read(_ path: String) -> Result<SavedState, USBError> {
        guard let data = FileManager.default.contents(atPath: path) else {
            return .failure(USBError(.notFound, "\(path) can't be read: \(errnoText(errno))"))
        }
        if let offset = JSONScan.firstError(in: Array(data)) {
            let what = offset == data.count ? "cut short at" : "no JSON from"
            return .failure(USBError(.invalid, "\(path) is \(what) byte \(offset)"))
        }
        do {
            let decoder = JSONDecoder()
            let version = try decoder.decode(VersionOnly.self, from: data).version
            guard version <= Self.version else { return .failure(tooNew(path, version)) }
            let contents = try decoder.decode(Contents.self, from: data)
            guard try checksum(contents.state) == contents.checksum else {
                return .failure(
                    USBError(
                        .invalid,
                        "\(path) was changed: its checksum (from byte \(offset(of: "\"checksum\"", in: data))) doesn't fit"
                    ))
            }
            return .success(contents.state)
        } catch {
            return .failure(USBError(.invalid, "\(path) isn't a state file: \(describe(error))"))
        }
    }

    private static func tooNew(_ path: String, _ version: Int) -> USBError {
        USBError(
            .unsupported,
            "\(path) has version \(version), this vusbd knows up to \(Self.version)",
            remedy: "run the vusbd that wrote it, or another state directory (--state)"
        )
    }

    private static func offset(of text: String, in data: Data) -> Int {
        data.range(of: Data(text.utf8))?.lowerBound ?? 0
    }

    private static func describe(_ error: any Error) -> String {
        guard let error = error as? DecodingError else { return "\(error)" }
        let context: DecodingError.Context
        switch error {
        case .typeMismatch(_, let found), .valueNotFound(_, let found), .keyNotFound(_, let found),
            .dataCorrupted(let found):
            context = found
        @unknown default: return "\(error)"
        }
        let keys = context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue }
        return keys.isEmpty
            ? context.debugDescription : "at \(keys.joined(separator: ".")): \(context.debugDescription)"
    }

    // MARK: - Writing

    /// Returns once the state would survive a power cut.
    func write(_ state: SavedState) throws(USBError) {
        let bytes: Data
        do {
            let contents = Contents(version: Self.version, checksum: try Self.checksum(state), state: state)
            bytes = try Self.encoder.encode(contents) + Data("\n".utf8)
        } catch {
            throw USBError(.io, "state can't be encoded: \(error)")
        }
        try Self.writeDurably(bytes, to: newPath)
        try keepPrevious()
        guard unsafe rename(newPath, path) == 0 else { throw failure("rename of \(newPath)") }
        try syncDirectory()
    }

    /// The present file gets a second name, so that it stays when its first one is given to the new file.
    private func keepPrevious() throws(USBError) {
        guard unsafe unlink(previousPath) == 0 || errno == ENOENT else { throw failure("unlink of \(previousPath)") }
        guard unsafe link(path, previousPath) == 0 || errno == ENOENT else { throw failure("link of \(previousPath)") }
    }

    /// The good copy gets the first name before anything is written: the next write would give it up for the bad one.
    private func putBackPrevious() throws(USBError) {
        guard unsafe rename(path, damagedPath) == 0 || errno == ENOENT else { throw failure("rename of \(path)") }
        guard unsafe rename(previousPath, path) == 0 else { throw failure("rename of \(previousPath)") }
        try syncDirectory()
    }

    private func syncDirectory() throws(USBError) {
        let descriptor = try OwnedDescriptor(opening: directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard fsync(descriptor.number) == 0 else { throw failure("fsync of \(directory)") }
    }

    private static func writeDurably(_ bytes: Data, to path: String) throws(USBError) {
        let descriptor = try OwnedDescriptor(opening: path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode: 0o600)
        var rest = bytes[...]
        while !rest.isEmpty {
            // SAFETY: the buffer is read within its count only, during the call.
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor.number, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw systemError("write of \(path)", errno) }
            rest = rest.dropFirst(count)
        }
        guard fsync(descriptor.number) == 0 else { throw systemError("fsync of \(path)", errno) }
    }

    private func failure(_ doing: String) -> USBError { systemError(doing, errno) }

    private static func checksum(_ state: SavedState) throws -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in try encoder.encode(state) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }
}
