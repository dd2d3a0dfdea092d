// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A guest's kernel, reached through its agent.
struct AgentKernel: GuestKernel {
    /// What the agent must be allowed to do.
    static let commands = [
        "guest-exec", "guest-exec-status", "guest-file-open", "guest-file-read", "guest-file-write", "guest-file-flush",
        "guest-file-close",
    ]

    /// For the small helpers; loading a module may take longer on a slow guest.
    private static let helperLimit: Duration = .seconds(10)
    private static let moduleLimit: Duration = .seconds(60)

    let agent: GuestAgent

    var description: String { "guest \(agent.guest)" }

    func run(_ program: String, _ arguments: [String], limit: Duration) async throws(USBError) -> ProgramResult {
        try await agent.run(program, arguments, limit: limit)
    }

    func readFile(_ path: String, limit: Int) async throws(USBError) -> [UInt8] {
        try await agent.readFile(path, limit: limit)
    }

    func writeFile(
        _ path: String, _ bytes: [UInt8], progress: @Sendable (Int) -> Void
    ) async throws(USBError) {
        try await agent.writeFile(path, bytes, progress: progress)
    }

    func insmod(
        _ module: String, image: [UInt8], parameters: String, progress: @Sendable (Int) -> Void
    ) async throws(USBError) {
        // The agent's files are everybody's to write: what is loaded must be what was sent, so only root gets there.
        let directory = "/run/vusb-\(String(UInt64.random(in: .min ... .max), radix: 16))"
        try await helper("mkdir", ["-m", "700", directory])
        do throws(USBError) {
            let file = "\(directory)/\(module).ko"
            try await agent.writeFile(file, image, progress: progress)
            let words = parameters.split(separator: " ").map { String($0) }
            let result = try await run(
                oneOf: Self.places("insmod", isForRoot: true), [file] + words, limit: Self.moduleLimit)
            guard result.succeeded else { throw failure("insmod", module, result) }
        } catch {
            await remove(directory)
            throw error
        }
        await remove(directory)
    }

    func rmmod(_ module: String) async throws(USBError) {
        let result = try await run(oneOf: Self.places("rmmod", isForRoot: true), [module], limit: Self.moduleLimit)
        guard result.succeeded else { throw failure("rmmod", module, result) }
    }

    // MARK: - Programs

    /// Where distributions have a program; the last is NixOS.
    private static func places(_ program: String, isForRoot: Bool = false) -> [String] {
        (isForRoot ? ["/sbin/\(program)"] : []) + ["/bin/\(program)", "/run/current-system/sw/bin/\(program)"]
    }

    private func run(
        oneOf programs: [String], _ arguments: [String], limit: Duration
    ) async throws(USBError) -> ProgramResult {
        for program in programs.dropLast() {
            do throws(USBError) {
                return try await agent.run(program, arguments, limit: limit)
            } catch {
                guard error.code == .notFound else { throw error }
            }
        }
        return try await agent.run(programs[programs.count - 1], arguments, limit: limit)
    }

    private func helper(_ program: String, _ arguments: [String]) async throws(USBError) {
        let result = try await run(oneOf: Self.places(program), arguments, limit: Self.helperLimit)
        guard result.succeeded else {
            let line = ([program] + arguments).joined(separator: " ")
            throw USBError(.io, "\(line) in \(description) failed: \(Self.text(of: result))")
        }
    }

    /// In a task of its own: also after a cancellation nothing is to be left in the guest.
    private func remove(_ directory: String) async {
        // What can't be removed is gone with the guest's next boot, and says nothing about the module.
        let task = Task { _ = try? await helper("rm", ["-r", "-f", directory]) }
        await task.value
    }

    // MARK: - Failures

    private static func text(of result: ProgramResult) -> String {
        let text = PlainText.lastLines(result.errors.isEmpty ? result.output : result.errors)
        switch result.end {
        case .exited(let code): return text.isEmpty ? "exit status \(code)" : text
        case .signalled(let signal): return "signal \(signal)" + (text.isEmpty ? "" : ": " + text)
        }
    }

    private func failure(_ program: String, _ module: String, _ result: ProgramResult) -> USBError {
        let text = Self.text(of: result)
        return USBError(Self.code(for: text.lowercased()), "\(program) of \(module) in \(description) failed: \(text)")
    }

    /// kmod and busybox end with the kernel's errno in words, some of them their own; kmod finds out by itself that a
    /// module isn't loaded, or is in use.
    private static func code(for text: String) -> USBError.Code {
        let words: [(String, USBError.Code)] = [
            ("file exists", .busy), ("in use", .busy), ("resource temporarily unavailable", .busy),
            ("resource busy", .busy), ("not currently loaded", .notFound), ("unknown symbol", .notFound),
            ("no such file or directory", .notFound), ("not permitted", .accessDenied),
            ("permission denied", .accessDenied), ("key was rejected", .accessDenied),
            ("key not available", .accessDenied), ("invalid module format", .invalid), ("exec format error", .invalid),
            ("wrong symbol version", .invalid), ("invalid parameters", .invalid), ("invalid argument", .invalid),
        ]
        return words.first { text.contains($0.0) }?.1 ?? .io
    }
}
