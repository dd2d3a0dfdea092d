// SPDX-License-Identifier: Apache-2.0

import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOHTTP1

extension ControlClient {
    /// Calls `body` with each event, until it throws, the task is cancelled or the daemon ends the stream.
    /// - Parameter after: first those that are still known with a higher number.
    package func events(
        after: UInt64? = nil, _ body: (EventInfo) async throws -> Void
    ) async throws {
        let query = after.map { "?after=\($0)" } ?? ""
        let response = try await send(try request(.GET, "/v1/events" + query), timeout: .hours(24 * 365))
        var lines = EventLines()
        var parts = response.body.makeAsyncIterator()
        while let bytes = try await part(&parts) {
            for data in lines.feed(bytes.readableBytesView) { try await body(try event(data)) }
        }
    }

    private func part(_ parts: inout HTTPClientResponse.Body.AsyncIterator) async throws -> ByteBuffer? {
        do {
            return try await parts.next()
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw ClientError(.interrupted, "vusbd at \(socketPath) ended the events", cause: error)
        }
    }

    private func event(_ data: [UInt8]) throws(ClientError) -> EventInfo {
        do {
            return try JSONDecoder().decode(EventInfo.self, from: Data(data))
        } catch {
            throw ClientError(
                .garbled, "\(socketPath) sent an event that this program doesn't understand", cause: error)
        }
    }
}

/// Takes server-sent events apart: as much as vusbd sends of them, one `data` line each.
struct EventLines {
    private var line: [UInt8] = []
    private static let prefix = Array("data:".utf8)

    /// The data of the events that `bytes` completes.
    mutating func feed(_ bytes: some Sequence<UInt8>) -> [[UInt8]] {
        var found: [[UInt8]] = []
        for byte in bytes {
            guard byte == UInt8(ascii: "\n") else {
                line.append(byte)
                continue
            }
            if line.starts(with: Self.prefix) { found.append(Array(line.dropFirst(Self.prefix.count))) }
            line.removeAll(keepingCapacity: true)
        }
        return found
    }
}
