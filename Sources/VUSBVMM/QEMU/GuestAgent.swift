// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A guest's agent (qemu-guest-agent) at its Unix socket.
///
/// The agent does one thing at a time, and answers carry no id: commands wait for each other here, and after a time-out,
/// a cancellation or a new connection the stream is put in step by `guest-sync-delimited`, which skips stale answers.
/// The socket takes one client at a time: it's given back when nothing was asked for a while.
///
/// Concurrency model: an actor. A command holds the channel, handed on in order by `enter` and `leave`; only its holder
/// touches `socket` and `isInStep`.
actor GuestAgent {
    struct Limits: Sendable {
        /// How long the agent may take to answer a sync, that is to prove that it runs.
        var sync: Duration = .seconds(5)
        /// How long a command may take unless its caller says otherwise.
        var command: Duration = .seconds(10)
        /// The connection is closed after that long without a command.
        var idle: Duration = .seconds(5)
        /// Bytes of an answer: 64 KiB of a file, or a program's output, in base64.
        var line = 1 << 20
        /// Bytes of a file that go in one command.
        var chunk = 48 << 10
        /// Between questions for a program's end: doubled each time.
        var firstPoll: Duration = .milliseconds(10)
        var longestPoll: Duration = .milliseconds(50)
    }

    /// Lines that don't belong to a sync before it's given up: more than an agent can have left, and a guest that floods
    /// the port must not keep a CPU busy.
    private static let staleLines = 10_000
    /// An overlong one counts as so many. An agent keeps 16 MiB of a program's output, in base64.
    private static let staleOverlong = 300

    let guest: String
    let path: String
    let limits: Limits
    private var socket: LineSocket?
    /// What the agent says next is the answer to what it's asked next.
    private var isInStep = false
    private var isHeld = false
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var lastUse = ContinuousClock.now

    init(guest: String, path: String, limits: Limits = Limits()) {
        self.guest = guest
        self.path = path
        self.limits = limits
    }

    /// Runs a command.
    /// - Parameter limit: for the answer, once the agent is in step.
    /// - Throws: `unsupported` where it's blocked or unknown, `timedOut` where the agent is silent, `notFound`,
    ///   `accessDenied` or `io` by what it says, `cancelled`.
    func execute(
        _ command: String, _ arguments: [String: JSONValue] = [:], within limit: Duration? = nil
    ) async throws(USBError) -> JSONValue {
        await enter()
        defer { leave() }
        let socket = try await readySocket()
        var message: [String: JSONValue] = ["execute": .string(command)]
        if !arguments.isEmpty { message["arguments"] = .object(arguments) }
        isInStep = false
        socket.send(JSONValue.object(message).bytes + [0x0A])
        let answer = try await answer(to: command, socket, within: limit ?? limits.command)
        isInStep = true
        switch answer {
        case .success(let value): return value
        case .failure(let refusal): throw AgentError.refused(refusal, command, guest)
        }
    }

    /// The commands that the agent has, and those that it blocks.
    func commands() async throws(USBError) -> AgentCommands { AgentCommands(try await execute("guest-info")) }

    func close() {
        socket?.close()
        socket = nil
    }

    // MARK: - One at a time

    private func enter() async {
        guard isHeld else {
            isHeld = true
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    private func leave() {
        lastUse = .now
        if waiting.isEmpty { isHeld = false } else { waiting.removeFirst().resume() }
    }

    // MARK: - The connection

    /// A connection that is in step.
    private func readySocket() async throws(USBError) -> LineSocket {
        guard !Task.isCancelled else { throw AgentError.cancelled(guest) }
        let peer = await socket?.peer()
        if let socket, peer == .quiet, isInStep { return socket }
        let ready: LineSocket
        if let socket, peer != .gone { ready = socket } else { ready = try connect() }
        do throws(LineSocket.Failure) {
            try await sync(ready)
        } catch {
            close()
            throw AgentError.sync(error, guest, path)
        }
        isInStep = true
        return ready
    }

    private func connect() throws(USBError) -> LineSocket {
        close()
        do throws(LineSocket.Failure) {
            let socket = try LineSocket(path: path, lineLimit: limits.line)
            self.socket = socket
            Task { [weak self] in
                // Never cancelled, so the sleep isn't cut short.
                while let rest = await self?.idleRest(of: socket) { try? await Task.sleep(for: rest) }
            }
            return socket
        } catch {
            throw AgentError.connecting(error, guest, path)
        }
    }

    /// How long the connection may stay unused from now on; nil where it has been closed.
    private func idleRest(of socket: LineSocket) -> Duration? {
        guard self.socket === socket else { return nil }
        guard !isHeld else { return limits.idle }
        let rest = limits.idle - (ContinuousClock.now - lastUse)
        guard rest <= .zero else { return rest }
        close()
        return nil
    }

    /// Asks for a number, with a byte in front that makes the agent drop what it has half read, and waits for it.
    private func sync(_ socket: LineSocket) async throws(LineSocket.Failure) {
        let id = Int.random(in: 1...Int(Int32.max))
        let message: JSONValue = ["execute": "guest-sync-delimited", "arguments": ["id": .integer(id)]]
        socket.send([0xFF] + message.bytes + [0x0A])
        let deadline = ContinuousClock.now + limits.sync
        var stale = 0
        while stale < Self.staleLines {
            guard case .bytes(let bytes) = try await socket.next(within: deadline - .now) else {
                stale += Self.staleOverlong
                continue
            }
            let line = AgentLine(parsing: bytes)
            if line.isDelimited, line.answer == .success(.integer(id)) { return }
            stale += 1
        }
        throw .failed(0)
    }

    private func answer(
        to command: String, _ socket: LineSocket, within limit: Duration
    ) async throws(USBError) -> Result<JSONValue, QMPRefusal> {
        let line: LineSocket.Line
        do throws(LineSocket.Failure) {
            line = try await socket.next(within: limit)
        } catch {
            if error != .timedOut, error != .cancelled { close() }
            throw AgentError.answer(error, command, guest, limit)
        }
        guard case .bytes(let bytes) = line else { throw AgentError.overlong(command, guest, limits.line) }
        guard let answer = AgentLine(parsing: bytes).answer else { throw AgentError.garbled(command, guest) }
        return answer
    }
}
