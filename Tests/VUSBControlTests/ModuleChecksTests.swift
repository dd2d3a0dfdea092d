// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBControl

/// What the checks say of mode `module` on made-up hosts.
@Suite struct ModuleChecksTests {
    private static let release = "/proc/sys/kernel/osrelease"
    private static let directory = "/lib/modules/6.1.0"

    @Test(arguments: [
        (["/sys/bus/usb/devices/usb1/speed": "480"], Finding.Level.ok),
        ([release: "6.1.0\n", directory + "/kernel/drivers/usb/core/usbcore.ko": ""], .ok),
        ([release: "6.1.0\n", directory + "/kernel/drivers/usb/core/usbcore.ko.xz": ""], .ok),
        ([release: "6.1.0\n", directory + "/modules.builtin": "kernel/drivers/usb/core/usbcore.ko\n"], .ok),
        ([release: "6.1.0\n", directory + "/modules.builtin": "kernel/fs/fuse/fuse.ko\n"], .warning),
        ([release: "6.2.0\n", directory + "/kernel/drivers/usb/core/usbcore.ko": ""], .warning),
        ([:], .warning),
    ])
    func kernelWithoutUSBCoreIsAWarning(files: [String: String], level: Finding.Level) throws {
        try HostChecksTests.host(files) { checks in
            #expect(checks.hostUSB().level == level)
            #expect((checks.hostUSB().remedy != nil) == (level == .warning))
        }
    }

    private static let disabled = "/proc/sys/kernel/modules_disabled"
    private static let enforced = "/sys/module/module/parameters/sig_enforce"
    private static let lockdown = "/sys/kernel/security/lockdown"

    @Test(arguments: [
        ([:], "takes no modules"), ([disabled: "1\n"], "kernel.modules_disabled"),
        ([enforced: "Y\n"], "signed modules"),
        ([lockdown: "none [integrity] confidentiality\n"], "signed modules"),
        ([disabled: "0\n", enforced: "N\n", lockdown: "[none] integrity confidentiality\n"], "takes modules"),
    ])
    func kernelThatTakesNoModulesOrSignedOnesSaysSo(files: [String: String], says: String) throws {
        let modules = files.isEmpty ? [:] : ["/proc/modules": ""]
        try HostChecksTests.host(files.merging(modules) { first, _ in first }) { checks in
            let finding = checks.moduleLoading()
            #expect(finding.summary.contains(says), "\(finding)")
            #expect(finding.level == (says == "takes modules" ? .ok : .warning))
        }
    }

    private static func build(_ release: String, fault: String? = nil) -> ModuleInfo {
        ModuleInfo(
            kernelRelease: release, vermagic: release + " SMP", version: "0.1", directory: "/srv/" + release,
            fault: fault)
    }

    @Test func knownBuildsAreToldByTheirKernelsWithTheHostsOwn() throws {
        try HostChecksTests.host([Self.release: "6.1.0\n"]) { checks in
            let other = checks.moduleBuilds([Self.build("6.12.1"), Self.build("6.2.0"), Self.build("6.2.0")])
            #expect(other.level == .ok)
            #expect(
                other.summary
                    == "the USB module is there for 6.12.1, 6.2.0; none for this host's own kernel, 6.1.0")
            #expect(checks.moduleBuilds([Self.build("6.1.0")]).summary == "the USB module is there for 6.1.0")
        }
    }

    @Test func noBuildAndABadOneAreWarningsWithRemedies() throws {
        try HostChecksTests.host([:]) { checks in
            let none = checks.moduleBuilds([])
            #expect(none.level == .warning)
            #expect(none.remedy?.contains("make -C kmod-shim") == true)
            let bad = checks.moduleBuilds([
                Self.build("6.1.0"), Self.build("6.2.0", fault: "/srv/6.2.0 has no vusb_hcd.ko"),
            ])
            #expect(bad.level == .warning)
            #expect(bad.summary == "1 of 2 builds of the USB module can't be used: /srv/6.2.0 has no vusb_hcd.ko")
            #expect(bad.remedy?.contains("vusbctl modules") == true)
        }
    }
}
