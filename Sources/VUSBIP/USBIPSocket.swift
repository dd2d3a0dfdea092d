// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import VUSBCore

/// The system calls of sockets. A descriptor is its owner's to close.
enum USBIPSocket {
    /// `sizeof(sockaddr_un.sun_path)`, without its terminating zero.
    static let longestPath = 107
    /// Whoever finds it full tries again after a second: a crowd that imports nothing mustn't have others wait so.
    private static let backlog: Int32 = 1024
    /// K2 of USBIP.md, in seconds and milliseconds.
    private static let keepAliveIdle: Int32 = 5
    private static let keepAliveInterval: Int32 = 2
    private static let keepAliveProbes: Int32 = 3
    private static let userTimeout: Int32 = 10_000

    private static let type =
        Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)

    /// - Throws: `invalid` for an address that can't be, `io`.
    static func listen(at endpoint: USBIPListenerDefinition.Endpoint) throws(USBError) -> Int32 {
        switch endpoint {
        case .tcp(let host, let port, _): try listenTCP(host, port, "\(endpoint)")
        case .unix(let path, let mode, let owner): try listenUnix(path, mode, owner)
        case .vsock(let port): try listenVsock(port, "\(endpoint)")
        }
    }

    /// Nothing is left of the look: nobody can connect to a socket that doesn't listen, and of a Unix socket's path only the
    /// directory is looked at.
    static func obstacle(at endpoint: USBIPListenerDefinition.Endpoint) -> USBError? {
        switch endpoint {
        case .tcp(let host, let port, _):
            do throws(USBError) {
                close(try bindTCP(host, port, "\(endpoint)"))
                return nil
            } catch {
                return error
            }
        case .unix(let path, _, _):
            let directory = path.lastIndex(of: "/").map { path[...$0] } ?? "."
            return unsafe access(String(directory), F_OK) == 0 ? nil : failure(path, errno)
        case .vsock:
            let descriptor = socket(vsockFamily, type, 0)
            guard descriptor >= 0 else { return failure("\(endpoint)", errno) }
            close(descriptor)
            return nil
        }
    }

    /// AF_VSOCK
    private static let vsockFamily: Int32 = 40

    private static func failure(_ what: String, _ code: Int32) -> USBError {
        // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
        USBError(
            .io, "USB/IP can't listen at \(what): \(unsafe String(cString: strerror(code)))",
            remedy: remedy(code))
    }

    private static func remedy(_ code: Int32) -> String {
        switch code {
        case EADDRINUSE: "see who has it, such as another guest, and choose another one"
        case EADDRNOTAVAIL: "give an address that this host has"
        case ENOENT, ENOTDIR: "make the directory first"
        default: "see whether vusbd may"
        }
    }

    private static func closing(_ descriptor: Int32, _ error: USBError) -> USBError {
        close(descriptor)
        return error
    }

    // MARK: - TCP

    private static func listenTCP(_ host: String, _ port: UInt16, _ what: String) throws(USBError) -> Int32 {
        let descriptor = try bindTCP(host, port, what)
        guard Glibc.listen(descriptor, backlog) == 0 else { throw closing(descriptor, failure(what, errno)) }
        return descriptor
    }

    private static func bindTCP(_ host: String, _ port: UInt16, _ what: String) throws(USBError) -> Int32 {
        var hints = unsafe addrinfo()
        unsafe hints.ai_family = AF_UNSPEC
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE
        var found: UnsafeMutablePointer<addrinfo>?
        // SAFETY: getaddrinfo gives a list that freeaddrinfo takes back.
        guard unsafe getaddrinfo(host, String(port), &hints, &found) == 0, let address = unsafe found else {
            throw USBError(.invalid, "\(what): no address", remedy: "write a numeric one, such as 127.0.0.1 or ::1")
        }
        defer { unsafe freeaddrinfo(address) }
        let descriptor = unsafe socket(address.pointee.ai_family, type, 0)
        guard descriptor >= 0 else { throw failure(what, errno) }
        // A port of connections that linger from before is ours again.
        set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        guard unsafe bind(descriptor, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0 else {
            throw closing(descriptor, failure(what, errno))
        }
        return descriptor
    }

    /// The port that a TCP socket is bound to.
    static func port(_ descriptor: Int32) -> UInt16? {
        // SAFETY: `address` calls it with memory of the lengths that go with it.
        unsafe address(descriptor, getsockname).flatMap { UInt16($0.port) }
    }

    private static func address(
        _ descriptor: Int32,
        _ get: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> (host: String, port: String)? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var port = [CChar](repeating: 0, count: Int(NI_MAXSERV))
        // SAFETY: all lengths are those of the memory that they go with.
        let isKnown = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe get(descriptor, address, &length) == 0
                    && getnameinfo(
                        address, length, &host, socklen_t(host.count), &port, socklen_t(port.count),
                        NI_NUMERICHOST | NI_NUMERICSERV) == 0
            }
        }
        guard isKnown else { return nil }
        return (text(host), text(port))
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: - Unix and vsock

    private static func listenUnix(_ path: String, _ mode: UInt32, _ owner: UInt32?) throws(USBError) -> Int32 {
        let bytes = Array(path.utf8)
        guard !bytes.isEmpty, !bytes.contains(0), bytes.count <= longestPath else {
            throw USBError(
                .invalid, "the socket path '\(path)' has \(bytes.count) bytes, more than \(longestPath), or none",
                remedy: "use a shorter one")
        }
        let descriptor = socket(AF_UNIX, type, 0)
        guard descriptor >= 0 else { throw failure(path, errno) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // SAFETY: `bytes` is shorter than the field, and the rest of it is zero.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        removeSocket(path)
        // Nobody can connect before listen(2), and by then its permissions are set.
        // SAFETY: `address` is a whole sockaddr_un, which bind only reads.
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0, unsafe chmod(path, mode) == 0,
            unsafe owner == nil || owner == geteuid() || chown(path, owner ?? 0, gid_t.max) == 0,
            Glibc.listen(descriptor, backlog) == 0
        else { throw closing(descriptor, failure(path, errno)) }
        return descriptor
    }

    /// One that is there is what a vusbd that was killed has left. What isn't a socket stays, and bind says so.
    static func removeSocket(_ path: String) {
        guard unsafe CVUSBShims_is_socket(path) == 1 else { return }
        // Gone already is what is wanted.
        _ = unsafe unlink(path)
    }

    private static func listenVsock(_ port: UInt32, _ what: String) throws(USBError) -> Int32 {
        let descriptor = CVUSBShims_vsock_listen(port, backlog)
        guard descriptor >= 0 else { throw failure(what, errno) }
        return descriptor
    }

    // MARK: - Peers

    enum Accepted: Equatable {
        case peer(Int32)
        case none
        /// No descriptor or memory is left: to be tried later.
        case exhausted
    }

    static func accept(_ listener: Int32) -> Accepted {
        while true {
            let peer = CVUSBShims_accept(listener)
            if peer >= 0 { return .peer(peer) }
            switch errno {
            case EINTR, ECONNABORTED: continue
            case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .exhausted
            default: return .none
            }
        }
    }

    /// Who has connected, and what the kernel is to do about a peer that vanishes. Nil where it's gone already.
    static func prepare(_ peer: Int32, of endpoint: USBIPListenerDefinition.Endpoint) -> USBIPIdentity? {
        switch endpoint {
        case .tcp:
            watchPeer(peer)
            // SAFETY: as in `port`.
            return unsafe address(peer, getpeername).map { .address("\($0.host) port \($0.port)") }
        case .unix:
            var uid: UInt32 = 0
            var gid: UInt32 = 0
            var process: Int32 = 0
            guard unsafe CVUSBShims_unix_peer(peer, &uid, &gid, &process) == 0 else { return nil }
            return .user(uid: uid, gid: gid, process: process)
        case .vsock:
            var cid: UInt32 = 0
            guard unsafe CVUSBShims_vsock_peer(peer, &cid) == 0 else { return nil }
            return .machine(cid: cid)
        }
    }

    /// What is set for a TCP connection, whoever has made it.
    static let peerOptions: [(level: Int32, name: Int32, value: Int32)] = {
        let tcp = Int32(IPPROTO_TCP)
        return [
            (tcp, TCP_NODELAY, 1), (SOL_SOCKET, SO_KEEPALIVE, 1), (tcp, TCP_KEEPIDLE, keepAliveIdle),
            (tcp, TCP_KEEPINTVL, keepAliveInterval), (tcp, TCP_KEEPCNT, keepAliveProbes),
            (tcp, TCP_USER_TIMEOUT, userTimeout),
        ]
    }()

    private static func watchPeer(_ peer: Int32) {
        for option in peerOptions { set(peer, option.level, option.name, option.value) }
    }

    /// A kernel without the option serves all the same.
    private static func set(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        _ = unsafe setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    }
}
