// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import Testing

@testable import VUSBControl

/// What the checks say of made-up hosts.
@Suite struct HostChecksTests {
    /// A root directory with the files that are named, then thrown away.
    static func host(
        _ files: [String: String], links: [String: String] = [:], probe: Int32 = 0,
        _ body: (HostChecks) throws -> Void
    ) throws {
        let root = try ServerFixture.temporaryDirectory()
        defer { try? FileManager.default.removeItem(atPath: root) }  // Left files harm nobody.
        for (path, text) in files {
            try make(root + path)
            try text.write(toFile: root + path, atomically: false, encoding: .utf8)
        }
        for (path, target) in links {
            try make(root + path)
            try FileManager.default.createSymbolicLink(atPath: root + path, withDestinationPath: target)
        }
        try body(HostChecks(root: root, probe: { _ in probe }))
    }

    private static func make(_ path: String) throws {
        let directory = (path as NSString).deletingLastPathComponent
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }

    private static let memory = "/sys/module/usbcore/parameters/usbfs_memory_mb"
    private static let good = [
        "/dev/fuse": "", "/dev/cuse": "", "/proc/filesystems": "nodev\tproc\n\text4\nnodev\tfuse\n",
        "/proc/self/mountinfo": "", "/etc/group": "root:x:0:\nvusb:x:991:ada\n", "/usr/bin/fusermount3": "",
        "/sys/bus/usb/devices/1-1/idVendor": "0525", "/dev/bus/usb/001/002": "", memory: "256\n",
        "/proc/modules": "usbcore 1 0 - Live 0x0\n", "/proc/sys/kernel/osrelease": "6.1.0-56-amd64\n",
    ]

    @Test func hostWithEverythingHasOnlyGoodFindings() throws {
        try Self.host(Self.good) { checks in
            let path = checks.files.path("/usr/bin/fusermount3")
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
            let findings = checks.findings()
            #expect(findings.allSatisfy { $0.level == .ok }, "\(findings)")
            #expect(
                findings.map(\.check) == [
                    "fuse-device", "fuse-kernel", "fusermount3", "mount", "group", "cuse", "usb-nodes",
                    "usbfs-memory", "usb-drivers", "module-usbcore", "module-loading",
                ])
        }
    }

    @Test func emptyHostHasARemedyForEachFinding() throws {
        try Self.host([:]) { checks in
            let findings = checks.findings()
            #expect(findings.filter { $0.level == .error }.map(\.check) == ["fuse-device"])
            #expect(findings.filter { $0.level == .warning }.count == findings.count - 1)
            #expect(findings.allSatisfy { $0.remedy?.isEmpty == false }, "\(findings)")
        }
    }

    @Test func kernelWithoutFUSEIsAnError() throws {
        try Self.host(["/proc/filesystems": "nodev\tfuseblk\n"]) { checks in
            #expect(checks.fuseKernel().level == .error)
            #expect(checks.fuseKernel().remedy?.contains("modprobe fuse") == true)
        }
    }

    private static let mounted =
        "22 1 0:20 / / rw - ext4 /dev/vda rw\n98 22 0:52 / /vusb rw,nosuid shared:5 - fuse.vusb vusb rw\n"

    @Test func mountOfAKilledDaemonIsAnErrorWithItsRemedy() throws {
        try Self.host(["/proc/self/mountinfo": Self.mounted], probe: ENOTCONN) { checks in
            let finding = checks.mountState()
            #expect(finding.level == .error)
            #expect(finding.remedy?.contains("umount -l /vusb") == true)
        }
    }

    @Test func mountOfALivingDaemonIsGood() throws {
        try Self.host(["/proc/self/mountinfo": Self.mounted]) { checks in
            #expect(checks.mountState().level == .ok)
            #expect(checks.mountState().summary.contains("fuse.vusb"))
        }
    }

    @Test func daemonDoesNotTouchItsOwnMount() throws {
        try Self.host(["/proc/self/mountinfo": Self.mounted]) { checks in
            var own = checks
            own.probe = nil
            #expect(own.mountState().level == .ok)
        }
    }

    @Test func mountThatFailsOtherwiseIsAWarning() throws {
        try Self.host(["/proc/self/mountinfo": Self.mounted], probe: EIO) { checks in
            #expect(checks.mountState().level == .warning)
        }
    }

    @Test func mountOfSomethingElseIsAnError() throws {
        try Self.host(["/proc/self/mountinfo": "9 1 0:3 / /vusb rw - tmpfs tmpfs rw\n"]) { checks in
            #expect(checks.mountState().level == .error)
            #expect(checks.mountState().summary.contains("tmpfs"))
        }
    }

    @Test func mountInfoIsReadWithItsEscapesAndLastMountWins() {
        let text = """
            9 1 0:3 / /mnt/a\\040b\\134c rw shared:1 master:2 - tmpfs tmpfs rw
            10 1 0:4 / /x rw - ext4 /dev/sda rw
            11 1 0:5 / /x rw - fuse vusb rw
            12 1 short
            13 1 0:5 / /y rw no dash here
            """
        #expect(MountInfo.type(of: "/mnt/a b\\c", in: text) == "tmpfs")
        #expect(MountInfo.type(of: "/x", in: text) == "fuse")
        #expect(MountInfo.type(of: "/y", in: text) == nil)
        #expect(MountInfo.type(of: "/z", in: text) == nil)
    }

    @Test(arguments: [("0\n", Finding.Level.ok), ("64", .ok), ("63", .warning), ("16\n", .warning), ("x", .warning)])
    func usbMemoryBelow64MBIsAWarning(text: String, level: Finding.Level) throws {
        try Self.host([Self.memory: text]) { checks in
            #expect(checks.usbMemory().level == level)
        }
    }

    @Test func driversThatHoldInterfacesAreNamed() throws {
        let driver = "../../../../bus/usb/drivers/usb-storage"
        let links = [
            "/sys/bus/usb/devices/1-1:1.0/driver": driver,
            "/sys/bus/usb/devices/1-0:1.0/driver": "../../../../bus/usb/drivers/hub",
        ]
        try Self.host(Self.good, links: links) { checks in
            #expect(
                checks.usbDrivers().summary == "usb-storage holds 1-1:1.0: taken away at attach, given back at detach")
        }
    }

    @Test func statfsOfADirectoryIsGoodAndOfNothingAnErrno() {
        #expect(HostChecks.statfs("/") == 0)
        #expect(HostChecks.statfs("/no/such/place") == ENOENT)
    }
}
