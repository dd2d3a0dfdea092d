// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// Files of this host, read with a bound.
enum LocalFile {
    /// The first `limit` bytes. A file that gives nothing now (a FIFO nobody writes to) is empty.
    /// - Throws: `notFound`, `accessDenied`, `io`.
    static func read(_ path: String, limit: Int) throws(USBError) -> [UInt8] {
        // Not blocking: opening a FIFO would wait for its other end.
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else { throw error(errno, path) }
        defer { close(descriptor) }
        var result: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: min(max(limit, 1), 64 << 10))
        while result.count < limit {
            let count = unsafe Glibc.read(descriptor, &piece, min(piece.count, limit - result.count))
            if count < 0, errno == EINTR { continue }
            if count < 0, errno != EAGAIN { throw error(errno, path) }
            guard count > 0 else { break }
            result += piece[..<count]
        }
        return result
    }

    static func error(_ code: Int32, _ path: String) -> USBError {
        switch code {
        case ENOENT, ENOTDIR: USBError(.notFound, "\(path): no such file")
        case EACCES, EPERM:
            USBError(.accessDenied, "\(path) can't be read: \(text(code))", remedy: "vusbd must run as root")
        default: USBError(.io, "\(path) can't be read: \(text(code))")
        }
    }

    static func text(_ code: Int32) -> String {
        // SAFETY: strerror answers a text for every number, which is copied at once.
        unsafe String(cString: strerror(code))
    }
}
