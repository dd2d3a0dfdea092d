// SPDX-License-Identifier: Apache-2.0

import Glibc
import VUSBControl

/// What a program sees of USB: a guest's directory of /vusb in place of the host's `/dev/bus/usb` and `/sys/bus/usb`.
/// SysfsView.md says why these, and what libudev needs besides. unshare(1) and mount(8) do it.
struct ProgramView {
    /// The guest's, such as `/vusb/guests/web1`.
    let directory: String

    /// A sysfs of a kernel without USB has no place for the view, and none can be made.
    private static let script = """
        set -e
        mkdir -p /dev/bus/usb
        mount --bind "$1/dev/bus/usb" /dev/bus/usb
        if [ -d /sys/bus/usb ]; then part=bus/usb; else part=bus; fi
        mount --bind "$1/sys/$part" "/sys/$part"
        # libudev takes devices from a sysfs alone unless it's told otherwise.
        export SYSTEMD_DEVICE_VERIFY_SYSFS=0
        shift
        exec "$@"
        """

    /// Becomes the program, in a mount namespace that `restart` has made.
    /// - Returns: why it couldn't.
    func run(_ command: [String]) -> Failure {
        Self.execute(["/bin/sh", "-c", Self.script, "vusbctl run", directory] + command)
    }

    /// Begins this program anew in a mount namespace of its own, and a network if wanted.
    /// - Returns: why it couldn't.
    static func restart(_ arguments: [String], withNetwork: Bool) -> Failure {
        guard geteuid() == 0 else {
            return Failure(
                Problem(.denied, "only root can give a program a view of its own", remedy: "sudo vusbctl run"))
        }
        var own = [CChar](repeating: 0, count: Int(PATH_MAX))
        // SAFETY: readlink writes at most as many bytes as the array has.
        let count = unsafe readlink("/proc/self/exe", &own, own.count)
        guard count > 0 else { return Failure(Problem(.failed, "/proc/self/exe can't be read", remedy: "mount /proc")) }
        let program = String(decoding: own.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let options = ["--mount"] + (withNetwork ? ["--net"] : [])
        return execute(["unshare"] + options + ["--", program] + arguments)
    }

    /// - Returns: why the program couldn't be run.
    private static func execute(_ command: [String]) -> Failure {
        // Else the program would have it ignored, as the client's sockets have, and what this thread, one of Dispatch's,
        // has blocked: SIGTERM for one.
        signal(SIGPIPE, SIG_DFL)
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe pthread_sigmask(SIG_SETMASK, &none, nil)
        var arguments: [UnsafeMutablePointer<CChar>?] = unsafe command.map { unsafe strdup($0) } + [nil]
        // SAFETY: a list of zero-terminated texts that ends with a null pointer, as execvp wants it.
        if let program = unsafe arguments[0] { unsafe execvp(program, &arguments) }
        let code = errno
        unsafe arguments.forEach { unsafe free($0) }
        // SAFETY: strerror answers a zero-terminated text for every number; it is copied.
        let reason = unsafe String(cString: strerror(code))
        return Failure(Problem(.failed, "\(command.first ?? "") can't be run: \(reason)", remedy: nil))
    }
}
