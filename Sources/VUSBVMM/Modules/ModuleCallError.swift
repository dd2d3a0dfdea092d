// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// What finit_module(2) and delete_module(2) mean by their error numbers, and what to do about each.
struct ModuleCallError {
    let module: String
    /// A positive errno.
    let code: Int32
    /// What the kernel's log said about it.
    let log: [String]

    var loading: USBError {
        let (kind, meaning, remedy) = loadingParts
        let said = log.isEmpty ? "" : "; the kernel says: \(log.joined(separator: " / "))"
        return USBError(kind, "\(module) can't be loaded: \(meaning)\(said)", remedy: remedy)
    }

    private var loadingParts: (USBError.Code, String, String?) {
        switch code {
        case ENOEXEC:
            (
                .invalid, "the kernel doesn't take it for one of its own (vermagic, or another processor)",
                "build it for the kernel that runs: make -C kmod-shim"
            )
        case EKEYREJECTED, ENOKEY, EBADMSG, ENOPKG:
            (
                .accessDenied, "the kernel demands a signature by a key that it knows (\(LocalFile.text(code)))",
                "sign it with a key that is enrolled there (kmodsign, mokutil), or boot with module.sig_enforce=0"
            )
        case EPERM, EACCES:
            (
                .accessDenied, "the kernel doesn't allow it (lockdown, modules_disabled, or vusbd isn't root)",
                "run vusbd as root with CAP_SYS_MODULE; see /sys/kernel/security/lockdown and "
                    + "/proc/sys/kernel/modules_disabled"
            )
        case EEXIST: (.busy, "it is loaded already", "rmmod \(module) there, if nobody needs it")
        case ENOENT:
            (
                .notFound, "it needs symbols that the kernel doesn't have",
                "load what it depends on (modinfo -F depends), or build it for the kernel that runs"
            )
        case EINVAL:
            (
                .invalid, "symbol versions differ, or it refuses its parameters",
                "build it against the headers of exactly the kernel that runs"
            )
        case EBUSY: (.busy, "it is being loaded or unloaded by somebody else", "try again")
        case ENOMEM: (.io, "there is no memory for it", nil)
        case ENOSYS: (.unsupported, "the kernel is built without modules", "use a kernel with CONFIG_MODULES")
        default: (.io, LocalFile.text(code), "see dmesg")
        }
    }

    var unloading: USBError {
        switch code {
        case EWOULDBLOCK, EBUSY:
            USBError(.busy, "\(module) is in use", remedy: "end what uses it: lsmod, and /sys/module/\(module)/holders")
        case ENOENT: USBError(.notFound, "\(module) isn't loaded")
        case EPERM:
            USBError(
                .accessDenied, "the kernel doesn't allow to unload \(module)",
                remedy: "run vusbd as root with CAP_SYS_MODULE"
            )
        case ENOSYS: USBError(.unsupported, "the kernel is built without modules")
        default: USBError(.io, "\(module) can't be unloaded: \(LocalFile.text(code))", remedy: "see dmesg")
        }
    }
}
