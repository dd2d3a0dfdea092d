// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The system calls of a Unix stream socket that never waits.
enum UnixStream {
    typealias Failure = LineSocket.Failure

    /// - Returns: a descriptor that the caller closes; non-blocking, closed on exec.
    static func connect(_ path: String) throws(Failure) -> Int32 {
        var address = try address(path)
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else { throw .failed(errno) }
        // SAFETY: `address` is a whole sockaddr_un, and connect only reads it.
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            let code = errno
            close(descriptor)
            throw .failed(code)
        }
        return descriptor
    }

    private static func address(_ path: String) throws(Failure) -> sockaddr_un {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { throw .failed(ENAMETOOLONG) }
        guard !bytes.isEmpty, !bytes.contains(0) else { throw .failed(ENOENT) }
        // SAFETY: `bytes` is shorter than the field, and the rest of it is zero.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        return address
    }

    /// At most 64 KiB of what has arrived; none at the end of the stream.
    static func receive(_ descriptor: Int32) -> Result<[UInt8], Failure> {
        var result = 0
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, count in
            // SAFETY: recv writes no more than it's told.
            repeat {
                result = unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
            } while result < 0 && errno == EINTR
            count = max(result, 0)
        }
        return result < 0 ? .failure(.failed(errno)) : .success(bytes)
    }

    /// - Returns: how many of the bytes the kernel took.
    static func send(_ descriptor: Int32, _ bytes: [UInt8]) -> Result<Int, Failure> {
        var result = 0
        repeat {
            // SAFETY: send only reads the bytes, during the call.
            result = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
        } while result < 0 && errno == EINTR
        return result < 0 ? .failure(.failed(errno)) : .success(result)
    }

    /// Looks without taking anything.
    static func peer(_ descriptor: Int32) -> LineSocket.Peer {
        var byte: UInt8 = 0
        // SAFETY: recv writes one byte at most, into `byte`.
        let result = unsafe recv(descriptor, &byte, 1, Int32(MSG_PEEK))
        if result > 0 { return .talking }
        return result < 0 && (errno == EAGAIN || errno == EINTR) ? .quiet : .gone
    }
}
