// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Looks whether anybody listens at a Unix socket's path.
enum UnixSocket {
    enum State: Equatable {
        /// Somebody accepts connections (or has so many waiting that it's out of breath).
        case answering
        /// The file is there, whoever listened is gone.
        case refused
        case missing
        /// An errno; ENOTSOCK when the path is something else than a socket.
        case failed(Int32)
    }

    static func probe(_ path: String) -> State {
        guard var address = address(path) else { return .failed(ENAMETOOLONG) }
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else { return .failed(errno) }
        defer { close(descriptor) }
        // SAFETY: `address` is a whole sockaddr_un, and connect only reads it.
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result != 0 else { return .answering }
        return state(of: errno, path)
    }

    private static func state(of code: Int32, _ path: String) -> State {
        switch code {
        case EAGAIN, EINPROGRESS: return .answering
        case ENOENT: return .missing
        case ECONNREFUSED: return FileFacts(path)?.isSocket == true ? .refused : .failed(ENOTSOCK)
        default: return .failed(code)
        }
    }

    /// Nil when the path doesn't fit.
    private static func address(_ path: String) -> sockaddr_un? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard !bytes.isEmpty, bytes.count < room, !bytes.contains(0) else { return nil }
        // SAFETY: `bytes` is shorter than the field, and the rest of it is zero.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        return address
    }
}
