// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import VUSBCore

extension GuestAgent {
    /// Runs a program in the guest, in the C locale, and waits for its end.
    /// - Parameters:
    ///   - program: an absolute path.
    ///   - limit: how long it may take; one that takes longer goes on, the agent can't end it.
    /// - Throws: `notFound` where there is no such program, `unsupported` where the agent may not run any, `timedOut`,
    ///   `cancelled`, `io` where its output is longer than an answer may be.
    func run(_ program: String, _ arguments: [String], limit: Duration) async throws(USBError) -> ProgramResult {
        let deadline = ContinuousClock.now + limit
        let started = try await execute(
            "guest-exec",
            [
                "path": .string(program),
                "arg": .array(arguments.map { .string($0) }),
                // It replaces the agent's own.
                "env": ["LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "capture-output": true,
            ])
        guard let pid = started["pid"]?.integer else { throw AgentError.garbled("guest-exec", guest) }
        var delay = limits.firstPoll
        while true {
            let status = try await execute("guest-exec-status", ["pid": .integer(pid)])
            if status["exited"]?.bool == true { return try result(status, program) }
            let rest = deadline - .now
            guard rest > .zero else {
                throw USBError(
                    .timedOut, "\(program) in guest \(guest) still runs after \(limit), as process \(pid) there",
                    remedy: "look in the guest what it waits for")
            }
            do { try await Task.sleep(for: min(delay, rest)) } catch { throw AgentError.cancelled(guest) }
            delay = min(delay * 2, limits.longestPoll)
        }
    }

    private func result(_ status: JSONValue, _ program: String) throws(USBError) -> ProgramResult {
        let end: ProgramResult.End
        if let signal = status["signal"]?.integer {
            end = .signalled(signal)
        } else if let code = status["exitcode"]?.integer {
            end = .exited(code)
        } else {
            throw AgentError.garbled("guest-exec-status", guest)
        }
        guard status["out-truncated"]?.bool != true, status["err-truncated"]?.bool != true else {
            throw USBError(.io, "\(program) in guest \(guest) wrote more than its agent keeps")
        }
        return ProgramResult(
            end: end,
            output: try decode(status["out-data"], "guest-exec-status"),
            errors: try decode(status["err-data"], "guest-exec-status")
        )
    }

    /// Base64; nothing where it's left out.
    func decode(_ value: JSONValue?, _ command: String) throws(USBError) -> [UInt8] {
        guard let value else { return [] }
        guard let text = value.string, let data = Data(base64Encoded: text) else {
            throw AgentError.garbled(command, guest)
        }
        return Array(data)
    }
}
