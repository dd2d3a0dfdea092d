// SPDX-License-Identifier: Apache-2.0

import Glibc

/// What vusbd needs of the host, found by looking at files: used by the daemon for `GET /v1/doctor`, and by
/// `vusbctl doctor` itself when no daemon answers. Nothing is changed.
package struct HostChecks: Sendable {
    var files: HostFiles
    /// Where the files are, or are to be.
    var mount: String
    /// The group that may use the daemon's socket.
    var group: String
    /// Asks a mounted file system something; answers 0 or an errno. Nil leaves it alone.
    var probe: (@Sendable (String) -> Int32)?

    /// - Parameters:
    ///   - root: a directory that stands for `/`.
    ///   - probe: nil when the mount is this process's own and must not be touched by it.
    package init(
        root: String = "/", mount: String = "/vusb", group: String = "vusb",
        probe: (@Sendable (String) -> Int32)? = { HostChecks.statfs($0) }
    ) {
        files = HostFiles(root: root)
        self.mount = mount
        self.group = group
        self.probe = probe
    }

    package func findings() -> [Finding] {
        [fuseDevice(), fuseKernel(), fusermount(), mountState(), socketGroup(), cuse()] + usb() + module()
    }

    /// statfs(2): a FUSE mount whose server is dead answers ENOTCONN.
    package static func statfs(_ path: String) -> Int32 {
        var status = statvfs()
        // SAFETY: statvfs writes the one value that it is given.
        return unsafe statvfs(path, &status) == 0 ? 0 : errno
    }

    // MARK: - The file front

    func fuseDevice() -> Finding {
        let check = "fuse-device"
        guard files.exists("/dev/fuse") else {
            return Finding(
                check: check, level: .error, summary: "/dev/fuse isn't there",
                remedy: "load it with 'modprobe fuse'; a container must be given the device (--device /dev/fuse)")
        }
        guard files.isReadableAndWritable("/dev/fuse") else {
            return Finding(
                check: check, level: .error, summary: "/dev/fuse can't be opened by this user",
                remedy: "run vusbd as root, or give the user access with 'chmod 0666 /dev/fuse'")
        }
        return Finding(check: check, level: .ok, summary: "/dev/fuse can be opened")
    }

    func fuseKernel() -> Finding {
        let types = files.text("/proc/filesystems").map { text in
            text.split(separator: "\n").compactMap { $0.split(whereSeparator: \.isWhitespace).last }
        }
        guard let types else {
            return Finding(
                check: "fuse-kernel", level: .warning, summary: "/proc/filesystems can't be read",
                remedy: "mount proc on /proc")
        }
        guard types.contains("fuse") else {
            return Finding(
                check: "fuse-kernel", level: .error, summary: "the kernel has no FUSE",
                remedy: "load it with 'modprobe fuse', or boot a kernel with CONFIG_FUSE_FS")
        }
        return Finding(check: "fuse-kernel", level: .ok, summary: "the kernel has FUSE")
    }

    /// Root mounts by itself; others need the helper.
    func fusermount() -> Finding {
        let directories = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"]
        if let found = directories.map({ $0 + "/fusermount3" }).first(where: files.isExecutable) {
            return Finding(check: "fusermount3", level: .ok, summary: "\(found) is there")
        }
        return Finding(
            check: "fusermount3", level: .warning,
            summary: "fusermount3 isn't there: only root can mount \(mount)",
            remedy: "install it with 'apt install fuse3', or run vusbd as root")
    }

    func mountState() -> Finding {
        guard let text = files.text("/proc/self/mountinfo") else {
            return Finding(
                check: "mount", level: .warning, summary: "/proc/self/mountinfo can't be read",
                remedy: "mount proc on /proc")
        }
        guard let type = MountInfo.type(of: mount, in: text) else {
            return Finding(check: "mount", level: .ok, summary: "nothing is mounted on \(mount): it's free")
        }
        guard type.hasPrefix("fuse") else {
            return Finding(
                check: "mount", level: .error, summary: "\(mount) has a \(type) file system on it",
                remedy: "unmount it with 'umount \(mount)', or give vusbd another directory with --mount")
        }
        switch probe?(files.path(mount)) {
        case ENOTCONN?:
            return Finding(
                check: "mount", level: .error, summary: "\(mount) is left from a vusbd that was killed",
                remedy: "start vusbd, which clears it, or detach it with 'umount -l \(mount)'")
        case let code? where code != 0:
            return Finding(
                check: "mount", level: .warning, summary: "\(mount) is mounted, but says: \(errorText(code))",
                remedy: "look at vusbd's log with 'journalctl -u vusbd'")
        default:
            return Finding(check: "mount", level: .ok, summary: "\(mount) is mounted (\(type))")
        }
    }

    // MARK: - Who may use it

    func socketGroup() -> Finding {
        let groups = (files.text("/etc/group") ?? "").split(separator: "\n").compactMap {
            $0.split(separator: ":").first
        }
        guard groups.contains(where: { $0 == group }) else {
            return Finding(
                check: "group", level: .warning, summary: "there's no group \(group): only root can use vusbctl",
                remedy: "make it with 'groupadd --system \(group)' and restart vusbd")
        }
        return Finding(check: "group", level: .ok, summary: "members of the group \(group) can use vusbctl")
    }
}
