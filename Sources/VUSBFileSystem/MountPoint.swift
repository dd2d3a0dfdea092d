// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import Logging
internal import VUSBCore

/// Makes a path ready to be mounted on.
enum MountPoint {
    /// - Throws: what is in the way, with the remedy.
    static func prepare(_ path: String, logger: Logger) throws(USBError) {
        try checkDevice()
        guard path.hasPrefix("/") else {
            throw USBError(.invalid, "mount point \(path) isn't an absolute path", remedy: "begin it with /")
        }
        switch MountState.of(path, mountInfo: try MountState.readMountInfo()) {
        case .none: try makeDirectory(path)
        case .stale: try clear(path, logger)
        case .alive(let type):
            throw USBError(
                .busy,
                "\(path) already has a \(type) file system mounted on it",
                remedy: "stop the vusbd that serves it, unmount it, or choose another --mount"
            )
        }
    }

    private static func checkDevice() throws(USBError) {
        // SAFETY: open reads a constant path.
        let device = unsafe open("/dev/fuse", O_RDWR | O_CLOEXEC)
        guard device < 0 else {
            close(device)
            return
        }
        let remedy =
            errno == EACCES || errno == EPERM
            ? "run vusbd as root, or let its user open /dev/fuse"
            : "load the module: modprobe fuse"
        throw USBError(.notFound, "/dev/fuse can't be opened: \(errorText(errno))", remedy: remedy)
    }

    private static func makeDirectory(_ path: String) throws(USBError) {
        // SAFETY: mkdir reads the path, during the call.
        if unsafe mkdir(path, 0o755) == 0 { return }
        let reason = errno
        var attributes = stat()
        // SAFETY: stat writes the one value that it is given.
        guard reason == EEXIST, unsafe stat(path, &attributes) == 0, attributes.st_mode & S_IFMT == S_IFDIR else {
            throw USBError(
                .notFound,
                "mount point \(path) isn't a directory and can't be made one: \(errorText(reason))",
                remedy: "make the directory, or choose another --mount"
            )
        }
    }

    private static func clear(_ path: String, _ logger: Logger) throws(USBError) {
        // SAFETY: umount2 reads the path, during the call.
        guard unsafe umount2(path, Int32(MNT_DETACH)) == 0 else {
            throw USBError(
                .busy,
                "the mount of a killed vusbd at \(path) can't be cleared: \(errorText(errno))",
                remedy: "umount -l \(path)"
            )
        }
        logger.notice("cleared the mount that a killed vusbd left at \(path)")
    }
}
