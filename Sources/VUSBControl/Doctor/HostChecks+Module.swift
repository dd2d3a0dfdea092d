// SPDX-License-Identifier: Apache-2.0

/// What mode `module` needs of this host: builds of the module, and for guests on the host itself its own kernel.
extension HostChecks {
    func module() -> [Finding] { [hostUSB(), moduleLoading()] }

    /// The module stands on usbcore, loaded, built in or in /lib/modules.
    func hostUSB() -> Finding {
        let check = "module-usbcore"
        guard files.exists("/sys/bus/usb") || hasUSBCore else {
            return Finding(
                check: check, level: .warning,
                summary: "this kernel has no usbcore: guests on this host can't be loaded in mode module",
                remedy: "boot a kernel with CONFIG_USB for them, or use mode files; virtual machines have their own")
        }
        return Finding(check: check, level: .ok, summary: "this kernel has usbcore, which the USB module needs")
    }

    private var hasUSBCore: Bool {
        guard let directory = release.map({ "/lib/modules/" + $0 }) else { return false }
        let file = directory + "/kernel/drivers/usb/core/usbcore.ko"
        if ["", ".xz", ".zst", ".gz"].contains(where: { files.exists(file + $0) }) { return true }
        return files.text(directory + "/modules.builtin")?.contains("/usbcore.ko") ?? false
    }

    /// The kernel may take no modules at all, or signed ones only; that's never got around.
    func moduleLoading() -> Finding {
        let check = "module-loading"
        guard files.exists("/proc/modules") else {
            return Finding(
                check: check, level: .warning,
                summary: "this kernel takes no modules: guests on this host can't be loaded in mode module",
                remedy: "boot a kernel with CONFIG_MODULES for them, or use mode files")
        }
        guard word("/proc/sys/kernel/modules_disabled") != "1" else {
            return Finding(
                check: check, level: .warning,
                summary: "this kernel takes no more modules (kernel.modules_disabled is 1)",
                remedy: "boot it anew without that setting, or use mode files for guests on this host")
        }
        guard !wantsSignatures else {
            return Finding(
                check: check, level: .warning, summary: "this kernel takes signed modules only",
                remedy: """
                    sign the USB module with a key that this kernel knows (see mokutil(1)), or use mode files for guests \
                    on this host
                    """)
        }
        return Finding(check: check, level: .ok, summary: "this kernel takes modules")
    }

    /// By its parameter, or since it's locked down: `none [integrity] confidentiality`.
    private var wantsSignatures: Bool {
        if word("/sys/module/module/parameters/sig_enforce") == "Y" { return true }
        return files.text("/sys/kernel/security/lockdown").map { $0.contains("[") && !$0.contains("[none]") } ?? false
    }

    /// Only vusbd knows the builds.
    package func moduleBuilds(_ builds: [ModuleInfo]) -> Finding {
        let check = "module-builds"
        let good = builds.filter { $0.fault == nil }
        if let fault = builds.compactMap(\.fault).first {
            return Finding(
                check: check, level: .warning,
                summary:
                    "\(builds.count - good.count) of \(builds.count) builds of the USB module can't be used: \(fault)",
                remedy: "see all of them with 'vusbctl modules'; build anew with 'make -C kmod-shim'")
        }
        guard !good.isEmpty else {
            return Finding(
                check: check, level: .warning,
                summary: "no build of the USB module is known: no guest can be loaded in mode module",
                remedy: """
                    build it for the guest's kernel with 'make -C kmod-shim', and name the directory with --modules or \
                    in vusb.yaml
                    """)
        }
        let releases = Set(good.map(\.kernelRelease)).sorted()
        let own = release.map { releases.contains($0) ? "" : "; none for this host's own kernel, \($0)" } ?? ""
        return Finding(
            check: check, level: .ok,
            summary: "the USB module is there for \(releases.joined(separator: ", "))\(own)")
    }

    /// As `uname -r` prints it.
    private var release: String? { word("/proc/sys/kernel/osrelease") }

    private func word(_ path: String) -> String? {
        files.text(path)?.split(whereSeparator: \.isWhitespace).first.map(String.init)
    }
}
