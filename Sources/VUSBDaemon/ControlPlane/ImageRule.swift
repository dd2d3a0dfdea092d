// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBControl

/// Which files a disk emulated through the control interface may show. The daemon reads every file of the host, those
/// who may use its socket don't: without a rule a disk would lend them the daemon's eyes. What the command line and
/// the configuration name isn't bound by it.
struct ImageRule {
    let directory: String

    func check(_ image: String) throws(Problem) {
        guard let path = Self.realPath(image), let root = Self.realPath(directory), path.hasPrefix(root + "/") else {
            throw Problem(
                .denied,
                "image \(quoted(image)) isn't a file in \(directory)",
                remedy: "put it there, or emulate it with --emulate or in vusb.yaml"
            )
        }
    }

    /// With all symbolic links resolved; nil where there is no such file.
    private static func realPath(_ path: String) -> String? {
        guard !path.utf8.contains(0), let resolved = unsafe realpath(path, nil) else { return nil }
        // SAFETY: realpath returned a string that it allocated, and that is freed here.
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}
