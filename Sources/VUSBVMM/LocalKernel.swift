// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
package import VUSBCore

/// The kernel that vusbd itself runs on, for guests that are processes or containers of this host.
///
/// Concurrency model: immutable. Every call runs on a thread of libdispatch's, since all of them may wait; a cancelled
/// task ends a program, while a system call on a module is waited for.
package struct LocalKernel: GuestKernel {
    package let description = "the host"

    package init() {}

    package func run(
        _ program: String, _ arguments: [String], limit: Duration
    ) async throws(USBError) -> ProgramResult {
        let stop = try StopSignal()
        let result: Result<ProgramResult, USBError> = await withTaskCancellationHandler {
            do throws(USBError) {
                return .success(
                    try await BlockingWork.run { () throws(USBError) in
                        try LocalProgram.run(program, arguments, limit: limit, stop: stop)
                    }
                )
            } catch {
                return .failure(error)
            }
        } onCancel: {
            stop.send()
        }
        return try result.get()
    }

    package func readFile(_ path: String, limit: Int) async throws(USBError) -> [UInt8] {
        try await BlockingWork.run { () throws(USBError) in try LocalFile.read(path, limit: limit) }
    }

    package func insmod(
        _ module: String, image: [UInt8], parameters: String, progress: @Sendable (Int) -> Void
    ) async throws(USBError) {
        try await BlockingWork.run { () throws(USBError) in try Self.load(module, image, parameters) }
        progress(image.count)
    }

    package func rmmod(_ module: String) async throws(USBError) {
        try await BlockingWork.run { () throws(USBError) in
            // Without O_NONBLOCK the kernel would wait until nobody uses it; never O_TRUNC, which forces.
            let code = unsafe CVUSBShims_delete_module(module, UInt32(O_NONBLOCK))
            guard code == 0 else { throw ModuleCallError(module: module, code: -code, log: []).unloading }
        }
    }

    private static func load(_ module: String, _ image: [UInt8], _ parameters: String) throws(USBError) {
        let descriptor = unsafe CVUSBShims_memory_file(module)
        guard descriptor >= 0 else { throw USBError(.io, "memfd_create failed: \(LocalFile.text(-descriptor))") }
        defer { close(descriptor) }
        var rest = image[...]
        while !rest.isEmpty {
            // SAFETY: the bytes are valid during the call.
            let count = unsafe rest.withUnsafeBytes { bytes in unsafe write(descriptor, bytes.baseAddress, bytes.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw USBError(.io, "a copy of \(module) can't be made: \(LocalFile.text(errno))") }
            rest = rest.dropFirst(count)
        }
        // From its end, so that what is read later is about this call.
        let log = KernelLog()
        let code = unsafe CVUSBShims_finit_module(descriptor, parameters)
        guard code != 0 else { return }
        throw ModuleCallError(module: module, code: -code, log: log?.newLines(about: module) ?? []).loading
    }
}

/// Lines that the kernel adds to its log from now on.
final class KernelLog: Sendable {
    private let descriptor: Int32
    /// A record is at most so long (`CONSOLE_EXT_LOG_MAX`), and each read gives one.
    private static let recordSize = 8192
    private static let maximumRecords = 1000

    /// Nil where the log isn't for us to read.
    init?() {
        descriptor = unsafe open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        lseek(descriptor, 0, SEEK_END)
    }

    deinit { close(descriptor) }

    /// At most three, the last ones.
    func newLines(about module: String) -> [String] {
        var lines: [String] = []
        var record = [UInt8](repeating: 0, count: Self.recordSize)
        for _ in 0..<Self.maximumRecords {
            let count = unsafe read(descriptor, &record, record.count)
            // EPIPE: records were overwritten before they were read; the next read goes on behind them.
            if count < 0, errno == EPIPE || errno == EINTR { continue }
            guard count > 0 else { break }
            guard let text = Self.text(of: record[..<count]), text.contains(module) else { continue }
            lines.append(text)
        }
        return Array(lines.suffix(3))
    }

    /// `level,number,time,flags;text`, then a newline (Documentation/ABI/testing/dev-kmsg).
    static func text(of record: ArraySlice<UInt8>) -> String? {
        guard let start = record.firstIndex(of: UInt8(ascii: ";")) else { return nil }
        let line = record[(start + 1)...].prefix { $0 != UInt8(ascii: "\n") }
        return PlainText.line(String(decoding: line, as: UTF8.self))
    }
}
