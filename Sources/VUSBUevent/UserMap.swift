// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Who is who in a user namespace (user_namespaces(7)): lines of a first number inside, the same outside, and a count.
enum UserMap {
    /// What root of the process's user namespace is here; 0, which is right for most, where that can't be read.
    static func root(of process: Int) -> UInt32 {
        let file = unsafe open("/proc/\(process)/uid_map", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return 0 }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        // SAFETY: read writes within the array.
        let count = unsafe read(file, &bytes, bytes.count)
        return root(parsing: String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)) ?? 0
    }

    /// Nil where 0 isn't mapped.
    static func root(parsing map: String) -> UInt32? {
        for line in map.split(separator: "\n") {
            let numbers = line.split(separator: " ").map { UInt32($0) }
            if numbers.count == 3, numbers[0] == 0, let outside = numbers[1], numbers[2] ?? 0 > 0 { return outside }
        }
        return nil
    }
}
