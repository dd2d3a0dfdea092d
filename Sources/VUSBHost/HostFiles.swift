// SPDX-License-Identifier: Apache-2.0

import CVUSBShims
import Glibc

/// An errno.
struct SystemError: Error, Equatable, CustomStringConvertible {
    let code: Int32
    static var last: SystemError { SystemError(code: errno) }

    var description: String {
        // SAFETY: strerror's answer is this thread's until its next call, and is copied here.
        unsafe String(cString: strerror(code))
    }
}

/// A file descriptor that its end closes.
struct OwnedDescriptor: ~Copyable {
    let rawValue: Int32

    init(_ rawValue: Int32) { self.rawValue = rawValue }

    /// Opens with close-on-exec.
    init(path: String, flags: Int32) throws(SystemError) {
        var descriptor = unsafe open(path, flags | O_CLOEXEC)
        while descriptor < 0 && errno == EINTR { descriptor = unsafe open(path, flags | O_CLOEXEC) }
        guard descriptor >= 0 else { throw .last }
        rawValue = descriptor
    }

    deinit { close(rawValue) }

    /// All bytes up to `limit`; what a file has beyond is cut off.
    func readAll(limit: Int) throws(SystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count < limit {
            // SAFETY: the array is chunk.count bytes long, for the duration of the call.
            let count = unsafe chunk.withUnsafeMutableBytes { buffer in
                unsafe read(rawValue, buffer.baseAddress, buffer.count)
            }
            if count == 0 { break }
            if count < 0 {
                guard errno == EINTR else { throw .last }
                continue
            }
            bytes.append(contentsOf: chunk[..<count])
            // usbfs leaves holes unwritten: they must not show the chunk before.
            for index in 0..<count { chunk[index] = 0 }
        }
        return bytes.count > limit ? Array(bytes[..<limit]) : bytes
    }
}

/// Small reads of sysfs and procfs.
enum HostFiles {
    static func bytes(_ path: String, limit: Int) throws(SystemError) -> [UInt8] {
        try OwnedDescriptor(path: path, flags: O_RDONLY).readAll(limit: limit)
    }

    /// One attribute without the newline at its end; nil where it can't be read. Bytes that aren't UTF-8 become
    /// replacement characters.
    static func text(_ path: String, limit: Int = 4096) -> String? {
        // Every caller treats an attribute that can't be read as one that isn't there: devices leave at any time.
        guard let bytes = try? bytes(path, limit: limit) else { return nil }
        let end = bytes.lastIndex { $0 != 0x0a && $0 != 0 }.map { $0 + 1 } ?? 0
        return String(decoding: bytes[..<end], as: UTF8.self)
    }

    static func number(_ path: String) -> Int? {
        text(path, limit: 64).flatMap { Int($0.filter { $0 != " " }) }
    }

    static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    /// The entries of a directory but `.` and `..`, sorted; nil where it can't be read.
    static func list(_ path: String) -> [String]? {
        guard let directory = unsafe opendir(path) else { return nil }
        // SAFETY: opened above, closed once, here.
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            // SAFETY: the entry lives until the next readdir; its name is copied.
            let name = unsafe String(cString: CVUSBShims_dirent_name(entry))
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// The last component of what a symbolic link points to.
    static func linkName(_ path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        // SAFETY: the array is buffer.count bytes long, for the duration of the call.
        let count = unsafe buffer.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return 0 }
            return unsafe readlink(path, base.assumingMemoryBound(to: CChar.self), bytes.count)
        }
        guard count > 0 else { return nil }
        return buffer[..<count].split(separator: UInt8(ascii: "/")).last.map { String(decoding: $0, as: UTF8.self) }
    }
}
