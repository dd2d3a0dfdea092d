// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Dispatch
internal import Glibc
internal import VUSBCore

/// Runs a program of this host to its end, with a deadline and with a bound on what it may print.
///
/// Blocks its thread; `LocalKernel` gives it one of its own.
enum LocalProgram {
    /// What a program gets after the deadline to end by SIGTERM, and then by SIGKILL, in milliseconds.
    private static let patience: Int32 = 2_000

    /// - Parameters:
    ///   - program: an absolute path.
    ///   - outputLimit: bytes of its output, and as many of its errors. A program that prints more ends by SIGPIPE.
    ///   - stop: ends it early.
    /// - Throws: `notFound`, `accessDenied`, `timedOut`, `cancelled`, `io`.
    static func run(
        _ program: String, _ arguments: [String], limit: Duration, outputLimit: Int = 1 << 20, stop: StopSignal? = nil
    ) throws(USBError) -> ProgramResult {
        var output = try OutputPipe(limit: outputLimit)
        var errors = try OutputPipe(limit: outputLimit)
        let child = try Child(program, arguments, output: output.writeEnd, errors: errors.writeEnd)
        output.closeWriteEnd()
        errors.closeWriteEnd()
        let deadline = ContinuousClock.now + limit
        while true {
            let left = milliseconds(until: deadline)
            var waits = [
                pollfd(fd: child.watch, events: Int16(POLLIN), revents: 0),
                pollfd(fd: output.readEnd, events: Int16(POLLIN), revents: 0),
                pollfd(fd: errors.readEnd, events: Int16(POLLIN), revents: 0),
                pollfd(fd: stop?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
            ]
            let count = unsafe poll(&waits, nfds_t(waits.count), left)
            output.drain()
            errors.drain()
            if waits[3].revents != 0 {
                child.end(patience)
                throw USBError(.cancelled, "\(program) was stopped")
            }
            if count > 0, waits[0].revents != 0 { break }
            guard left > 0 else {
                child.end(patience)
                throw USBError(
                    .timedOut, "\(program) didn't end within \(limit)\(output.said(errors))",
                    remedy: "see what it waits for: ps, dmesg"
                )
            }
        }
        // What it printed last may have come between the drain and its end.
        output.drain()
        errors.drain()
        return ProgramResult(end: child.wait(), output: output.bytes, errors: errors.bytes)
    }

    private static func milliseconds(until deadline: ContinuousClock.Instant) -> Int32 {
        let left = (deadline - .now) / .milliseconds(1)
        return Int32(min(max(left.rounded(.up), 0), 3_600_000))
    }
}

/// Tells a thread that waits in poll(2) to stop, from any thread.
final class StopSignal: Sendable {
    /// Readable once `send` was called.
    let descriptor: Int32

    init() throws(USBError) {
        descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard descriptor >= 0 else { throw USBError(.io, "eventfd failed: \(LocalFile.text(errno))") }
    }

    deinit { close(descriptor) }

    func send() {
        var one: UInt64 = 1
        // It fails only where it was sent 2^64 times before.
        _ = unsafe write(descriptor, &one, MemoryLayout<UInt64>.size)
    }
}

/// What a program prints on one of its descriptors.
private struct OutputPipe: ~Copyable {
    private(set) var readEnd: Int32
    private(set) var writeEnd: Int32
    private(set) var bytes: [UInt8] = []
    private let limit: Int

    init(limit: Int) throws(USBError) {
        (readEnd, writeEnd) = (-1, -1)
        self.limit = limit
        let code = unsafe CVUSBShims_output_pipe(&readEnd, &writeEnd)
        guard code == 0 else {
            throw USBError(
                .io, "pipe failed: \(LocalFile.text(-code))",
                remedy: "raise vusbd's limit of open files (LimitNOFILE=)"
            )
        }
    }

    deinit {
        if readEnd >= 0 { close(readEnd) }
        if writeEnd >= 0 { close(writeEnd) }
    }

    mutating func closeWriteEnd() {
        close(writeEnd)
        writeEnd = -1
    }

    /// Takes what is there now. poll(2) ignores a descriptor of -1.
    mutating func drain() {
        var piece = [UInt8](repeating: 0, count: 16 << 10)
        while readEnd >= 0 {
            let count = unsafe read(readEnd, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return }
            if count > 0 { bytes += piece[..<min(count, limit - bytes.count)] }
            if count <= 0 || bytes.count >= limit {
                close(readEnd)
                readEnd = -1
            }
        }
    }

    /// For the message of a program that didn't end.
    borrowing func said(_ errors: borrowing OutputPipe) -> String {
        let text = PlainText.lastLines(errors.bytes.isEmpty ? bytes : errors.bytes)
        return text.isEmpty ? "" : ", it said: \(text)"
    }
}

/// A process that was started here, so nobody else waits for it and its number stays its own.
private struct Child: ~Copyable {
    private let pid: pid_t
    /// Readable when it has ended.
    let watch: Int32

    init(_ program: String, _ arguments: [String], output: Int32, errors: Int32) throws(USBError) {
        var pid: pid_t = 0
        let code = Self.spawn(program, [program] + arguments, output: output, errors: errors, pid: &pid)
        guard code == 0 else { throw LocalFile.error(code, program) }
        let watch = CVUSBShims_pidfd_open(pid)
        guard watch >= 0 else {
            let code = errno
            kill(-pid, SIGKILL)
            _ = Self.reap(pid)
            throw USBError(.io, "pidfd_open failed: \(LocalFile.text(code))")
        }
        self.pid = pid
        self.watch = watch
    }

    deinit { close(watch) }

    /// Its own process group, so that its children end with it. Signals as a program expects them: libdispatch's
    /// threads block all, which a child would inherit.
    private static func spawn(
        _ program: String, _ words: [String], output: Int32, errors: Int32, pid: inout pid_t
    ) -> Int32 {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        unsafe posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO)
        // Not everything that a library opened is close-on-exec.
        _ = unsafe CVUSBShims_close_above(&actions, STDERR_FILENO)

        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe posix_spawnattr_setsigmask(&attributes, &signals)
        unsafe sigfillset(&signals)
        unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
        unsafe posix_spawnattr_setpgroup(&attributes, 0)
        let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP
        unsafe posix_spawnattr_setflags(&attributes, Int16(flags))

        let environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]
        return unsafe withStrings(words) { arguments in
            unsafe withStrings(environment) { variables in
                unsafe posix_spawn(&pid, program, &actions, &attributes, arguments, variables)
            }
        }
    }

    /// SIGTERM, some time, SIGKILL, some time. One that can't die now (it waits in the kernel) is left to a thread
    /// that waits for it.
    func end(_ patience: Int32) {
        for signal in [SIGTERM, SIGKILL] {
            kill(-pid, signal)
            var waits = [pollfd(fd: watch, events: Int16(POLLIN), revents: 0)]
            while true {
                let count = unsafe poll(&waits, 1, patience)
                if count > 0 {
                    // Its own children may be there yet.
                    kill(-pid, SIGKILL)
                    _ = Self.reap(pid)
                    return
                }
                if count == 0 || errno != EINTR { break }
            }
        }
        let pid = pid
        DispatchQueue.global().async { _ = Self.reap(pid) }
    }

    /// It has ended.
    func wait() -> ProgramResult.End { Self.reap(pid) }

    /// wait(2)'s status, as its macros take it apart: they aren't part of Swift's Glibc module.
    private static func reap(_ pid: pid_t) -> ProgramResult.End {
        var status: Int32 = 0
        while unsafe waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { return .exited(127) }
        }
        let signal = Int(status & 0x7f)
        return signal == 0 ? .exited(Int(status >> 8 & 0xff)) : .signalled(signal)
    }
}

/// Calls with a NULL-terminated list of C strings.
private func withStrings<Result>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    // SAFETY: the copies live until `body` has returned; posix_spawn copies them into the new process.
    var copies = unsafe strings.map { unsafe strdup($0) } + [nil]
    defer { unsafe copies.indices.forEach { unsafe free(copies[$0]) } }
    return unsafe copies.withUnsafeMutableBufferPointer { buffer in
        // The list has at least its terminator, so it has an address.
        guard let base = buffer.baseAddress else { preconditionFailure("a list without an end") }
        return unsafe body(base)
    }
}
