// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import VUSBCore

/// What is mounted at a path, as far as a FUSE daemon must know before it mounts there.
enum MountState: Equatable {
    case none
    /// A FUSE mount whose daemon was killed: it answers ENOTCONN until it is unmounted.
    case stale
    case alive(type: String)

    /// Looks into /proc/self/mountinfo (proc(5)), and asks the mount itself only where there is one.
    static func of(_ path: String, mountInfo: String) -> MountState {
        guard let type = type(of: path, mountInfo: mountInfo) else { return .none }
        guard type.hasPrefix("fuse") else { return .alive(type: type) }
        var attributes = stat()
        // SAFETY: stat writes the one value that it is given.
        if unsafe stat(path, &attributes) != 0, errno == ENOTCONN || errno == ECONNABORTED { return .stale }
        return .alive(type: type)
    }

    /// The type of the topmost file system mounted exactly at `path`.
    static func type(of path: String, mountInfo: String) -> String? {
        MountInfoLine.all(in: mountInfo).last { $0.mountPoint == path }?.type
    }

    static func readMountInfo() throws(USBError) -> String {
        // SAFETY: open reads a constant path.
        let file = unsafe open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            throw USBError(.io, "/proc/self/mountinfo: \(errorText(errno))", remedy: "mount /proc")
        }
        defer { close(file) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            // SAFETY: read writes at most as many bytes as the chunk has.
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(file, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return String(decoding: text, as: UTF8.self) }
            text += chunk.prefix(count)
        }
    }
}

/// What the system calls an error number.
func errorText(_ number: Int32) -> String {
    // SAFETY: strerror's text is this thread's until its next call, and is copied here.
    unsafe strerror(number).map { unsafe String(cString: $0) } ?? "error \(number)"
}
