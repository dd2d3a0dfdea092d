// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What speaks against loading, told before anything is sent to the guest.
extension GuestFacts {
    /// Whether `vusb_hcd` is there with our path, by somebody else: then it's used as it is.
    /// - Throws: `busy` where it has another path, or only half of it is there.
    func hasOurs(channelPath: String) throws(USBError) -> Bool {
        guard let hcd = module("vusb_hcd") else {
            guard isBuiltIn else { return false }
            guard path == channelPath else {
                throw USBError(
                    .unsupported,
                    "ask the guest: vusb_hcd is built into its kernel, with path=\(path ?? "?")",
                    remedy: "boot it with vusb_hcd.path=\(channelPath), or with a kernel that has it as a module"
                )
            }
            return true
        }
        guard path == channelPath else {
            let version = hcd.version.isEmpty ? "" : " \(hcd.version)"
            let users = hcd.users.isEmpty ? "" : ", in use by \(hcd.users.joined(separator: ", "))"
            throw USBError(
                .busy,
                "ask the guest: vusb_hcd\(version) is loaded there already with path=\(path ?? "?")\(users), "
                    + "and not by us",
                remedy: "rmmod vusb_hcd vusb_channel there if nobody needs it, or load it there with "
                    + "path=\(channelPath)"
            )
        }
        return true
    }

    /// - Throws: `unsupported`, `accessDenied`.
    func checkTakesModules(_ guest: String) throws(USBError) {
        guard !isUnloadable else {
            throw USBError(
                .unsupported, "ask the guest: its kernel \(release) is built without modules",
                remedy: "use a kernel with CONFIG_MODULES, or mode files"
            )
        }
        guard isRoot else {
            throw USBError(
                .accessDenied, "ask the guest: what runs there for us isn't root",
                remedy: kernelIsHosts(guest) ? "run vusbd as root" : "run the guest's agent as root"
            )
        }
        guard !isLoadingDisabled else {
            throw USBError(
                .accessDenied, "ask the guest: its kernel takes no more modules until it boots anew",
                remedy: "boot it without kernel.modules_disabled=1"
            )
        }
    }

    /// What makes the kernel refuse modules without a signature that it knows.
    var signatureRule: String? {
        if let lockdown { return "its kernel is locked down (\(lockdown))" }
        return demandsSignature ? "its kernel demands signatures (module.sig_enforce)" : nil
    }

    /// - Throws: `accessDenied`, `invalid`, `busy`.
    func check(_ module: LoadableModule) throws(USBError) {
        if let signatureRule, !module.file.isSigned {
            throw USBError(
                .accessDenied, "find a build: \(signatureRule), and \(module.path) has no signature",
                remedy: "sign it with a key that is enrolled there (kmodsign, mokutil), or boot the guest without "
                    + "Secure Boot, lockdown= and module.sig_enforce"
            )
        }
        if let expected = Self.machines[machine], expected != module.file.machine {
            throw USBError(
                .invalid, "find a build: \(module.path) is for another processor than the guest's \(machine)",
                remedy: "build it for \(machine): make -C kmod-shim ARCH=... CROSS_COMPILE=... KVER=\(release)"
            )
        }
        guard let loaded = self.module(module.name), !loaded.isBuild(of: module.file) else { return }
        throw USBError(
            .busy,
            "ask the guest: another \(module.name) is loaded there, version \(loaded.version) "
                + "(\(loaded.sourceVersion)), ours is \(module.file.version) (\(module.file.sourceVersion))",
            remedy: "rmmod \(module.name) there; it stays busy as long as it waits for a share that doesn't answer"
        )
    }

    /// `uname -m`, and `e_machine` of ELF.
    static let machines: [String: UInt16] = [
        "x86_64": 62, "aarch64": 183, "riscv64": 243, "ppc64le": 21, "loongarch64": 258,
    ]

    private func kernelIsHosts(_ guest: String) -> Bool { guest == LocalKernel().description }
}

extension GuestFacts.Module {
    /// Whether it comes from the same sources as the file.
    func isBuild(of file: ModuleFile) -> Bool {
        let known = !sourceVersion.isEmpty && !file.sourceVersion.isEmpty
        return known ? sourceVersion == file.sourceVersion : version == file.version
    }
}

extension ModuleLoader {
    /// What goes into a mount command, a module's parameter and a line of /proc/mounts is made of letters that mean
    /// nothing to any of them.
    static func check(_ share: GuestShare, channelPath: String) throws(USBError) {
        for path in [share.path, channelPath] where !isPlain(path, first: "/", and: "/._+:@%=-") {
            throw USBError(
                .invalid, "the path \(PlainText.line(path)) can't be used in a guest",
                remedy: "use an absolute path of letters, digits and /._+:@%=-"
            )
        }
        guard share.kind != .host else { return }
        // virtio_fs_config has 36 bytes for it.
        guard let tag = share.tag, isPlain(tag, first: nil, and: "._-"), tag.utf8.count <= 36 else {
            throw USBError(
                .invalid, "the share has no usable tag",
                remedy: "give it the tag of the machine's device, of letters, digits and ._-, at most 36"
            )
        }
    }

    private static func isPlain(_ text: String, first: Character?, and others: String) -> Bool {
        guard let start = text.first, start != "-", first == nil || start == first, text.utf8.count <= 200 else {
            return false
        }
        return text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || others.contains($0)) }
    }
}
