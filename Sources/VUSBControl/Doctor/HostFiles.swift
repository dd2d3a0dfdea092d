// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc

/// Looks at the host's files, below another root in tests. It only reads.
struct HostFiles: Sendable {
    /// `/`, or a directory that stands for it.
    var root: String

    func path(_ path: String) -> String { root == "/" ? path : root + path }

    func exists(_ path: String) -> Bool { unsafe access(self.path(path), F_OK) == 0 }

    func isReadableAndWritable(_ path: String) -> Bool { unsafe access(self.path(path), R_OK | W_OK) == 0 }

    func isExecutable(_ path: String) -> Bool { unsafe access(self.path(path), X_OK) == 0 }

    /// A whole small file; nil if it can't be read. Procfs and sysfs tell no sizes, so it reads until the end.
    func text(_ path: String) -> String? {
        let descriptor = unsafe open(self.path(path), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count < 1 << 20 {
            // SAFETY: `chunk` has room for the count that's passed.
            let count = unsafe read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return count == 0 ? String(decoding: bytes, as: UTF8.self) : nil }
            bytes += chunk.prefix(count)
        }
        return nil
    }

    /// The names in a directory, sorted; none if it can't be read.
    func names(_ directory: String) -> [String] {
        do {
            return try FileManager.default.contentsOfDirectory(atPath: path(directory)).sorted()
        } catch {
            return []
        }
    }

    /// The last part of what a symbolic link points at.
    func linkedName(_ path: String) -> String? {
        do {
            let target = try FileManager.default.destinationOfSymbolicLink(atPath: self.path(path))
            return target.split(separator: "/").last.map(String.init)
        } catch {
            return nil
        }
    }
}
