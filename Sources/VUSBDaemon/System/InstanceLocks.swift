// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
internal import VUSBCore

/// What only one vusbd may use at a time: a state directory, a socket, a mount point. Whichever of them a second
/// instance shares with the first, it is refused.
struct InstanceLocks: ~Copyable, Sendable {
    private let state: InstanceLock
    private let socket: InstanceLock
    private let mount: InstanceLock

    /// Creates the state directory and the socket's where they are missing.
    init(stateDirectory: String, socket socketPath: String, mount mountPoint: String) throws(USBError) {
        try Directory.create(stateDirectory, mode: 0o700)
        let state = try InstanceLock(stateDirectory + "/vusbd.pid", object: "state directory \(stateDirectory)")
        let runtime = Directory.parent(of: socketPath)
        try Directory.create(runtime, mode: 0o755)
        let socket = try InstanceLock(socketPath + ".lock", object: "socket \(socketPath)")
        mount = try InstanceLock(try Self.mountLockPath(mountPoint), object: "mount point \(mountPoint)")
        self.state = state
        self.socket = socket
    }

    consuming func release() {
        mount.release()
        socket.release()
        state.release()
    }

    /// Not in the mount point, which may be mounted over, nor beside it, which may not be writable.
    private static func mountLockPath(_ mountPoint: String) throws(USBError) -> String {
        let runtime = getuid() == 0 ? "/run/vusb" : NSTemporaryDirectory() + "/vusb-\(getuid())"
        try Directory.create(runtime, mode: getuid() == 0 ? 0o755 : 0o700)
        let resolved = URL(fileURLWithPath: mountPoint).standardizedFileURL.path
        let name = resolved.split(separator: "/").joined(separator: "-")
        return "\(runtime)/mount-\(name).lock"
    }
}

enum Directory {
    /// With its parents. One that is there already keeps its mode.
    static func create(_ path: String, mode: mode_t) throws(USBError) {
        do {
            try FileManager.default.createDirectory(
                atPath: path,
                withIntermediateDirectories: true,
                attributes: [.posixPermissions: Int(mode)]
            )
        } catch {
            if let file = fileAmong(path) {
                throw USBError(.invalid, "\(file) isn't a directory", remedy: "name a directory, or move it away")
            }
            throw USBError(
                .accessDenied,
                "directory \(path) can't be created: \(error.localizedDescription)",
                remedy: "create it, or run vusbd as root"
            )
        }
    }

    /// What stands in a directory's way: the path or a parent of it that's there and is something else.
    private static func fileAmong(_ path: String) -> String? {
        var path = path
        while path != "/", path != "." {
            if let isDirectory = isThere(path) { return isDirectory ? nil : path }
            path = parent(of: path)
        }
        return nil
    }

    /// Whether it's a directory; nil where nothing is there.
    static func isThere(_ path: String) -> Bool? {
        var isDirectory: ObjCBool = false
        // SAFETY: the call writes the local variable and doesn't keep its address.
        guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else { return nil }
        return isDirectory.boolValue
    }

    static func parent(of path: String) -> String {
        let parent = (path as NSString).deletingLastPathComponent
        return parent.isEmpty ? "." : parent
    }
}
