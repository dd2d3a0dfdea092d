// SPDX-License-Identifier: Apache-2.0

import AsyncHTTPClient
import FoundationEssentials
import Glibc
import NIOCore
import NIOHTTP1

/// A client of the control interface, over its Unix socket.
///
/// Every call throws the `Problem` that the daemon answered, or a `ClientError` if there was no answer to read.
///
/// Concurrency model: all fields are constants; `HTTPClient` may be used from many tasks. `close()` comes last.
package final class ControlClient: Sendable {
    package let socketPath: String
    private let http: HTTPClient
    /// Largest answer that is read.
    private static let largestAnswer = 64 << 20
    /// What a call may take beyond the waiting that it asks for.
    private static let patience = TimeAmount.seconds(30)

    package static let defaultSocketPath = "/run/vusb/vusb.sock"

    package init(socketPath: String = ControlClient.defaultSocketPath) {
        self.socketPath = socketPath
        var configuration = HTTPClient.Configuration()
        configuration.timeout.connect = .seconds(5)
        http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    /// Ends all connections, event streams too.
    package func close() async {
        do {
            try await http.shutdown()
        } catch {
            // Closed twice, or connections that ended badly: they're gone either way.
        }
    }

    /// Opens a client, and closes it again whatever happens.
    package static func with<Value>(
        socketPath: String, _ body: (ControlClient) async throws -> Value
    ) async throws -> Value {
        let client = ControlClient(socketPath: socketPath)
        do {
            let value = try await body(client)
            await client.close()
            return value
        } catch {
            await client.close()
            throw error
        }
    }

    // MARK: - Requests

    func call<Answer: Decodable>(
        _ method: HTTPMethod, _ path: String, body: (any Encodable & Sendable)? = nil, as type: Answer.Type,
        waiting: TimeAmount = .seconds(0)
    ) async throws -> Answer {
        let bytes = try await exchange(method, path, body: body, waiting: waiting)
        do {
            return try JSONDecoder().decode(type, from: Data(bytes.readableBytesView))
        } catch {
            throw ClientError(
                .garbled, "\(socketPath) answered something that this program doesn't understand", cause: error)
        }
    }

    @discardableResult
    func exchange(
        _ method: HTTPMethod, _ path: String, body: (any Encodable & Sendable)? = nil,
        waiting: TimeAmount = .seconds(0)
    ) async throws -> ByteBuffer {
        var request = try request(method, path)
        if let body {
            request.headers.add(name: "content-type", value: "application/json")
            request.body = .bytes(ByteBuffer(bytes: try JSONEncoder().encode(body)))
        }
        let response = try await send(request, timeout: Self.patience + waiting)
        return try await self.body(of: response)
    }

    /// Starts a request; its body may still be coming.
    func send(_ request: HTTPClientRequest, timeout: TimeAmount) async throws -> HTTPClientResponse {
        try look()
        let response: HTTPClientResponse
        do {
            response = try await http.execute(request, timeout: timeout)
        } catch let error as HTTPClientError where error == .deadlineExceeded || error == .readTimeout {
            throw ClientError(.silent, "vusbd at \(socketPath) doesn't answer", cause: error)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw ClientError(.interrupted, "vusbd at \(socketPath) broke off", cause: error)
        }
        guard (200..<300).contains(response.status.code) else {
            throw try problem(try await body(of: response), status: Int(response.status.code))
        }
        return response
    }

    func request(_ method: HTTPMethod, _ path: String) throws -> HTTPClientRequest {
        var request = HTTPClientRequest(url: "http+unix://\(PercentEncoding.encode(socketPath))\(path)")
        request.method = method
        request.headers.add(name: "host", value: "localhost")
        request.headers.add(name: "accept", value: "application/json, text/event-stream, application/problem+json")
        return request
    }

    private func body(of response: HTTPClientResponse) async throws -> ByteBuffer {
        do {
            return try await response.body.collect(upTo: Self.largestAnswer)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw ClientError(.interrupted, "vusbd at \(socketPath) broke off", cause: error)
        }
    }

    private func problem(_ body: ByteBuffer, status: Int) throws -> Problem {
        do {
            return try JSONDecoder().decode(Problem.self, from: Data(body.readableBytesView))
        } catch {
            throw ClientError(
                .garbled, "\(socketPath) answered \(status) without a problem: is it vusbd's?", cause: error)
        }
    }

    /// Says at once what a connection pool would say after retries.
    private func look() throws(ClientError) {
        switch UnixSocket.probe(socketPath) {
        case .answering: return
        case .missing, .refused:
            throw ClientError(
                .notRunning,
                "vusbd isn't running at \(socketPath): start it with 'vusbd --socket \(socketPath)'"
            )
        case .failed(let code) where code == EACCES || code == EPERM:
            throw ClientError(
                .denied, "no permission for \(socketPath): become root, or a member of the socket's group, usually vusb"
            )
        case .failed(let code) where code == ENOTSOCK:
            throw ClientError(.notRunning, "\(socketPath) isn't a socket: give vusbd's with --socket")
        case .failed(let code):
            throw ClientError(.notRunning, "can't connect to \(socketPath): \(errorText(code))")
        }
    }
}
