// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Glibc
internal import Logging
internal import Synchronization
internal import VUSBCore

/// A connection to QEMU's machine protocol, QMP, from its greeting to its end.
///
/// Commands may be in flight at once; their answers are told apart by id. An answer that comes after its command was
/// given up is dropped. Whatever isn't QMP, or is too long, ends the connection.
///
/// Concurrency model: any thread. One task reads the socket and hands out what comes; it ends with the socket. The
/// table of commands is in one `Mutex`, a leaf; continuations are resumed outside of it, each by whoever took it out.
final class QMPClient: Sendable {
    struct Limits: Sendable {
        /// How long QEMU may take to greet: somebody else is on the socket if it doesn't.
        var greeting: Duration = .seconds(3)
        /// How long a command may take unless its caller says otherwise.
        var command: Duration = .seconds(10)
        /// Bytes.
        var line = 1 << 20
        /// Events that nobody has fetched yet.
        var events = 1024
    }

    typealias Answer = Result<JSONValue, QMPRefusal>

    /// What QEMU tells, in order. Called once; the stream ends with the connection.
    let events: AsyncStream<QMPEvent>
    /// QEMU's, such as `7.2.22`.
    let version: String

    /// An answer, or why there is none.
    private typealias Waiter = CheckedContinuation<Result<Answer, USBError>, Never>

    private struct State {
        var lastID = 0
        var waiting: [Int: Waiter] = [:]
        var end: USBError?
    }

    private let path: String
    private let socket: LineSocket
    private let limits: Limits
    private let logger: Logger
    private let state = Mutex(State())
    private let eventsIn: AsyncStream<QMPEvent>.Continuation

    /// Connects, waits for the greeting and asks for no capabilities.
    /// - Throws: `notFound` where nobody listens, `busy` where somebody else is connected, `accessDenied`, `invalid`
    ///   where the other side speaks something else, `gone`, `cancelled`.
    static func connect(to path: String, limits: Limits = Limits(), logger: Logger) async throws(USBError) -> QMPClient
    {
        let socket: LineSocket
        let version: String
        do throws(LineSocket.Failure) {
            socket = try LineSocket(path: path, lineLimit: limits.line)
            let line = try await socket.next(within: limits.greeting)
            guard case .bytes(let bytes) = line, case .greeting(let text)? = QMPMessage(parsing: bytes) else {
                throw LineSocket.Failure.failed(EPROTO)
            }
            version = text
        } catch {
            throw QMPError.connecting(error, path)
        }
        let client = QMPClient(path, socket, version, limits, logger)
        Task { await client.read() }
        do throws(USBError) {
            _ = try await client.execute("qmp_capabilities")
        } catch {
            client.close()
            throw error
        }
        return client
    }

    private init(_ path: String, _ socket: LineSocket, _ version: String, _ limits: Limits, _ logger: Logger) {
        self.path = path
        self.socket = socket
        self.version = version
        self.limits = limits
        self.logger = logger
        (events, eventsIn) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(limits.events))
    }

    func close() { socket.close() }

    /// Why the connection ended; nil while it stands.
    var end: USBError? { state.withLock { $0.end } }

    /// Runs a command.
    /// - Returns: what it answers with, an empty object mostly.
    /// - Throws: what QEMU says: `notFound` of a device, `unsupported` of a command, else `io`; `timedOut`; `gone` where
    ///   the connection is lost; `cancelled`.
    func execute(
        _ command: String, _ arguments: [String: JSONValue] = [:], within limit: Duration? = nil
    ) async throws(USBError) -> JSONValue {
        switch try await attempt(command, arguments, within: limit) {
        case .success(let value): return value
        case .failure(let refusal): throw QMPError.refused(refusal, path)
        }
    }

    /// The same, for who has something to do about a refusal.
    func attempt(
        _ command: String, _ arguments: [String: JSONValue] = [:], within limit: Duration? = nil
    ) async throws(USBError) -> Answer {
        let id = state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                guard register(id, continuation) else { return }
                send(command, arguments, id)
                expire(id, command, after: limit ?? limits.command)
            }
        } onCancel: {
            settle(id, .failure(QMPError.cancelled(command)))
        }
        return try result.get()
    }

    /// False where there is nothing to wait for: the continuation has been resumed.
    private func register(_ id: Int, _ continuation: Waiter) -> Bool {
        let refusal = state.withLock { state -> USBError? in
            if let end = state.end { return end }
            // A cancellation that comes later finds the entry.
            if Task.isCancelled { return USBError(.cancelled, "cancelled before a command to QEMU at \(path)") }
            state.waiting[id] = continuation
            return nil
        }
        guard let refusal else { return true }
        continuation.resume(returning: .failure(refusal))
        return false
    }

    private func send(_ command: String, _ arguments: [String: JSONValue], _ id: Int) {
        var message: [String: JSONValue] = ["execute": .string(command), "id": .integer(id)]
        if !arguments.isEmpty { message["arguments"] = .object(arguments) }
        socket.send(JSONValue.object(message).bytes + [0x0A])
    }

    private func expire(_ id: Int, _ command: String, after limit: Duration) {
        DispatchQueue.global().asyncAfter(deadline: .now() + limit.dispatchInterval) { [weak self, path] in
            self?.settle(id, .failure(QMPError.timedOut(command, path, limit)))
        }
    }

    /// Whoever takes the entry out resumes it; the others find nothing.
    private func settle(_ id: Int, _ result: Result<Answer, USBError>) {
        state.withLock { $0.waiting.removeValue(forKey: id) }?.resume(returning: result)
    }
}

// MARK: - Reading

extension QMPClient {
    private func read() async {
        let end: USBError
        do throws(LineSocket.Failure) {
            while true {
                guard case .bytes(let line) = try await socket.next(within: nil) else {
                    throw .failed(EMSGSIZE)
                }
                guard let message = QMPMessage(parsing: line) else { throw .failed(EPROTO) }
                try take(message)
            }
        } catch {
            end = QMPError.lost(error, path)
        }
        socket.close()
        finish(end)
    }

    private func take(_ message: QMPMessage) throws(LineSocket.Failure) {
        switch message {
        case .greeting: throw .failed(EPROTO)
        case .event(let event):
            guard case .dropped = eventsIn.yield(event) else { return }
            throw .failed(ENOBUFS)
        case .answer(let id?, let result):
            settle(id, .success(result))
        case .answer(nil, .failure(let refusal)):
            logger.warning("QEMU couldn't read a command", metadata: ["socket": "\(path)", "error": "\(refusal.text)"])
        case .answer(nil, .success): break
        }
    }

    private func finish(_ end: USBError) {
        let waiting = state.withLock { state in
            defer { state.waiting = [:] }
            state.end = end
            return state.waiting.values
        }
        for continuation in waiting { continuation.resume(returning: .failure(end)) }
        eventsIn.finish()
    }
}
