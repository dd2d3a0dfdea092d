// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Why the control server can't have its socket: names the path and the remedy.
package struct ControlServerError: Error, CustomStringConvertible, Equatable {
    package var description: String

    init(_ description: String) { self.description = description }

    static func system(_ what: String, _ path: String, _ code: Int32) -> ControlServerError {
        ControlServerError("\(what) \(path): \(errorText(code))")
    }
}

/// strerror(3), as Swift text.
func errorText(_ code: Int32) -> String {
    // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
    unsafe String(cString: strerror(code))
}

/// The file of a listening Unix socket: its place is made free before, and its permissions are set after bind(2).
struct SocketFile: Sendable {
    var path: String
    var mode: UInt32
    /// Nil leaves the group as it is.
    var group: UInt32?

    /// `sizeof(sockaddr_un.sun_path)`, with its terminating zero.
    static let longestPath = 107

    /// Makes the path free for bind(2): a socket that nobody answers is taken over.
    func prepare() throws(ControlServerError) {
        guard !path.isEmpty, !path.utf8.contains(0), path.utf8.count <= Self.longestPath else {
            throw ControlServerError(
                "the socket path '\(path)' has \(path.utf8.count) bytes: choose one of 1 to \(Self.longestPath)")
        }
        try makeDirectory()
        switch UnixSocket.probe(path) {
        case .missing, .refused: return  // The server unlinks a stale one itself when it binds.
        case .answering:
            throw ControlServerError(
                "\(path) is served by another process: stop that vusbd, or choose another path with --socket")
        case .failed(let code) where code == ENOTSOCK:
            throw ControlServerError("\(path) isn't a socket: remove it, or choose another path with --socket")
        case .failed(let code):
            throw .system("can't look at the socket", path, code)
        }
    }

    /// Sets owner and permissions, and tells which file it is.
    func secure() throws(ControlServerError) -> FileFacts {
        if let group, unsafe chown(path, uid_t.max, group) != 0 {
            throw .system("can't give the group \(group) to", path, errno)
        }
        guard unsafe chmod(path, mode) == 0 else { throw .system("can't set the permissions of", path, errno) }
        guard let identity = FileFacts(path) else { throw .system("can't look at", path, errno) }
        return identity
    }

    /// Removes the file if it's still ours: another server may have put its own there.
    func remove(_ identity: FileFacts) {
        if FileFacts(path) == identity { _ = unsafe unlink(path) }  // Gone already is what we want.
    }

    private func makeDirectory() throws(ControlServerError) {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
        let directory = String(path[..<slash])
        guard unsafe mkdir(directory, 0o755) == 0 || errno == EEXIST else {
            throw .system("can't make the socket's directory", directory, errno)
        }
    }
}
