// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import VUSBCore

extension GuestAgent {
    /// Writes a file of the guest, anew. The agent makes a new one readable and writable for everybody: what matters
    /// belongs into a directory that isn't.
    /// - Parameter progress: told the bytes that have been written so far.
    func writeFile(
        _ path: String, _ bytes: [UInt8], progress: @Sendable (Int) -> Void = { _ in }
    ) async throws(USBError) {
        try await withFile(path, mode: "wb") { (handle) async throws(USBError) in
            var written = 0
            while written < bytes.count {
                let chunk = bytes[written..<min(written + limits.chunk, bytes.count)]
                let arguments: [String: JSONValue] = [
                    "handle": .integer(handle), "buf-b64": .string(Data(chunk).base64EncodedString()),
                ]
                let count = try await execute("guest-file-write", arguments)["count"]?.integer ?? 0
                guard (1...chunk.count).contains(count) else { throw AgentError.garbled("guest-file-write", guest) }
                written += count
                progress(written)
            }
            _ = try await execute("guest-file-flush", ["handle": .integer(handle)])
        }
    }

    /// - Returns: the file's content, at most `limit` bytes of it.
    func readFile(_ path: String, limit: Int) async throws(USBError) -> [UInt8] {
        var content: [UInt8] = []
        try await withFile(path, mode: "rb") { (handle) async throws(USBError) in
            while content.count < limit {
                let count = min(limits.chunk, limit - content.count)
                let answer = try await execute(
                    "guest-file-read", ["handle": .integer(handle), "count": .integer(count)])
                let bytes = try decode(answer["buf-b64"], "guest-file-read")
                guard bytes.count <= count else { throw AgentError.garbled("guest-file-read", guest) }
                content += bytes
                if bytes.isEmpty || answer["eof"]?.bool == true { break }
            }
        }
        return content
    }

    private func withFile(
        _ path: String, mode: String, _ body: (Int) async throws(USBError) -> Void
    ) async throws(USBError) {
        let opened = try await execute("guest-file-open", ["path": .string(path), "mode": .string(mode)])
        guard let handle = opened.integer else { throw AgentError.garbled("guest-file-open", guest) }
        do throws(USBError) {
            try await body(handle)
        } catch {
            // Not awaited, and by a task that isn't cancelled; an agent that is lost has lost the file as well.
            Task { try? await execute("guest-file-close", ["handle": .integer(handle)]) }
            throw error
        }
        _ = try await execute("guest-file-close", ["handle": .integer(handle)])
    }
}
