// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// FUSE says which thread calls: people know processes.
enum CallingThread {
    /// The process that a thread is of. It waits for the answer, so it's there; where it can't be looked up, itself.
    static func process(of thread: Int32) -> Int32 {
        guard thread > 0, let text = status(of: thread) else { return thread }
        let line = text.split(separator: "\n").first { $0.hasPrefix("Tgid:") }
        return line.flatMap { Int32($0.dropFirst("Tgid:".count).drop { $0 == "\t" }) } ?? thread
    }

    /// The beginning of it, in which that stands.
    private static func status(of thread: Int32) -> String? {
        let descriptor = unsafe Glibc.open("/proc/\(thread)/status", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = Array(repeating: 0, count: 512)
        let count = unsafe read(descriptor, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
    }
}
