// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// A file descriptor that is closed with its owner.
struct OwnedDescriptor: ~Copyable, Sendable {
    let number: Int32

    /// - Throws: naming the path and the errno.
    init(opening path: String, _ flags: Int32, mode: mode_t = 0) throws(USBError) {
        var number: Int32
        repeat { number = unsafe Glibc.open(path, flags, mode) } while number < 0 && errno == EINTR
        guard number >= 0 else { throw systemError("open of \(path)", errno) }
        self.number = number
    }

    init(adopting number: Int32) { self.number = number }

    deinit {
        // Nothing is written through it that close could still lose: writers call fsync before.
        _ = Glibc.close(number)
    }
}

/// A failed system call, with the remedy where there is an obvious one.
func systemError(_ doing: String, _ code: Int32) -> USBError {
    let message = "\(doing) failed: \(errnoText(code))"
    switch code {
    case EACCES, EPERM, EROFS:
        return USBError(.accessDenied, message, remedy: "run vusbd as root, or name a place that it may use")
    case ENOENT, ENOTDIR: return USBError(.notFound, message, remedy: "create the directory first")
    case ENOSPC, EDQUOT: return USBError(.io, message, remedy: "make room on that file system")
    case EMFILE, ENFILE:
        return USBError(.io, message, remedy: "raise the limit of open files (LimitNOFILE= in the unit)")
    default: return USBError(.io, message)
    }
}

func errnoText(_ code: Int32) -> String {
    // SAFETY: strerror's text is copied at once; for known codes it's a constant.
    unsafe strerror(code).map { unsafe String(cString: $0) } ?? "errno \(code)"
}
