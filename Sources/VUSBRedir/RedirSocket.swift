// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import VUSBCore

/// The system calls of Unix stream sockets that never wait. A descriptor is its owner's to close.
enum RedirSocket {
    /// `sizeof(sockaddr_un.sun_path)`, with its terminating zero.
    static let longestPath = 107

    enum Outcome: Equatable {
        case moved(Int)
        /// Nothing now: epoll(7) tells when.
        case blocked
        /// The peer has closed.
        case ended
        case failed(Int32)
    }

    /// A listening socket at `path`, which nobody but `owner` may connect to.
    static func listen(at path: String, owner: UInt32) throws(USBError) -> Int32 {
        let descriptor = socket(AF_UNIX, Self.type, 0)
        guard descriptor >= 0 else { throw failure("no socket for", path, errno) }
        do throws(USBError) {
            try bind(descriptor, path)
            guard unsafe chmod(path, 0o600) == 0 else { throw failure("can't set the permissions of", path, errno) }
            let isGiven = unsafe owner == geteuid() || chown(path, owner, gid_t.max) == 0
            guard isGiven else { throw failure("can't give user \(owner)", path, errno) }
            guard Glibc.listen(descriptor, 1) == 0 else { throw failure("can't listen at", path, errno) }
        } catch {
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static let type =
        Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)

    private static func bind(_ descriptor: Int32, _ path: String) throws(USBError) {
        let bytes = Array(path.utf8)
        guard !bytes.isEmpty, !bytes.contains(0), bytes.count <= longestPath else {
            throw USBError(
                .invalid, "the socket path '\(path)' has \(bytes.count) bytes, more than \(longestPath)",
                remedy: "have vusbd's own socket in a directory with a shorter path (--socket)")
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // SAFETY: `bytes` is shorter than the field, and the rest of it is zero.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        // One that is there is what a vusbd that was killed has left: the directory is this one's.
        _ = unsafe unlink(path)
        // Nobody can connect before listen(2), and by then its permissions are set.
        // SAFETY: `address` is a whole sockaddr_un, which bind only reads.
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else { throw failure("can't make the socket", path, errno) }
    }

    private static func failure(_ what: String, _ path: String, _ code: Int32) -> USBError {
        // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
        USBError(
            .io, "\(what) \(path): \(unsafe String(cString: strerror(code)))",
            remedy: "see that vusbd may write to its directory, and look for open files (LimitNOFILE=)")
    }

    /// - Returns: the peer's descriptor; nil where nobody waits any more, or none is left.
    static func accept(_ descriptor: Int32) -> Int32? {
        while true {
            let peer = CVUSBShims_accept(descriptor)
            if peer >= 0 { return peer }
            guard errno == EINTR || errno == ECONNABORTED else { return nil }
        }
    }

    static func receive(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Outcome {
        var result = 0
        // SAFETY: recv writes no more than it's told.
        repeat {
            result = unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
        } while result < 0 && errno == EINTR
        return outcome(result)
    }

    static func send(_ descriptor: Int32, _ vectors: UnsafeMutablePointer<iovec>, count: Int) -> Outcome {
        var message = unsafe msghdr()
        unsafe message.msg_iov = vectors
        unsafe message.msg_iovlen = count
        var result = 0
        // SAFETY: sendmsg only reads what the vectors name, during the call.
        repeat {
            result = unsafe sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
        } while result < 0 && errno == EINTR
        // Nothing to send is never asked for, so 0 isn't an end.
        return result == 0 ? .blocked : outcome(result)
    }

    private static func outcome(_ result: Int) -> Outcome {
        if result > 0 { return .moved(result) }
        if result == 0 { return .ended }
        switch errno {
        case EAGAIN: return .blocked
        case ECONNRESET, EPIPE: return .ended
        default: return .failed(errno)
        }
    }
}
