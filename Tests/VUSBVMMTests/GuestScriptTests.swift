// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore

@testable import VUSBVMM

/// The scripts in the shells that guests have, in a tree that looks like a guest's /proc and /sys.
@Suite(.serialized) struct GuestScriptTests {
    static let shells = [["/usr/bin/bash"], ["/usr/bin/dash"], ["/usr/bin/busybox", "sh"]].filter {
        FileManager.default.isExecutableFile(atPath: $0[0])
    }
    private static let release: String = {
        let text = (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)) ?? ""
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }()

    private let folder: TemporaryFolder
    private let kernel = LocalKernel()

    init() throws { folder = try TemporaryFolder() }

    private func run(_ shell: [String], _ script: String, _ arguments: [String]) async throws -> ProgramResult {
        try await kernel.run(
            shell[0], shell.dropFirst() + ["-c", script, "vusb", folder.path] + arguments, limit: .seconds(60)
        )
    }

    private func facts(_ shell: [String], brief: Bool = false) async throws -> GuestFacts {
        let result = try await run(shell, GuestScript.facts, ["/mnt/vusb", brief ? "brief" : "whole"])
        let answer = try #require(GuestAnswer(parsing: result.output, of: "vusb-facts-1"))
        return try GuestFacts(answer, guest: "guest web1")
    }

    // MARK: - Facts

    private func makeFacts() throws {
        try folder.write("proc/sys/kernel/random/boot_id", FakeGuest.bootID + "\n")
        try folder.write("proc/sys/kernel/modules_disabled", "0\n")
        try folder.write(
            "proc/modules",
            """
            usbcore 348160 2 vusb_hcd,xhci_hcd, Live 0x0000000000000000
            vusb_hcd 49152 0 - Live 0x0000000000000000 (OE)
            vusb_channel 20480 1 vusb_hcd, Live 0x0000000000000000 (OE)

            """
        )
        try folder.write("sys/module/vusb_hcd/version", "0.1.0\n")
        try folder.write("sys/module/vusb_hcd/srcversion", "AAAA\n")
        try folder.write("sys/module/vusb_hcd/initstate", "live\n")
        try folder.write("sys/module/vusb_hcd/parameters/path", "/mnt/vusb/hcd\n")
        try folder.write("sys/module/usb_common/x", "")
        try folder.write("sys/module/module/parameters/sig_enforce", "N\n")
        try folder.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        try folder.write(
            "proc/mounts",
            "/dev/vda1 / ext4 rw 0 0\nvusb0 /mnt/vusb virtiofs rw,relatime 0 0\nx /a\\040b tmpfs rw 0 0\n"
        )
    }

    @Test(arguments: shells) func factsAreWhatTheTreeHolds(shell: [String]) async throws {
        try makeFacts()
        let facts = try await facts(shell)
        #expect(facts.release == Self.release)
        #expect(facts.bootID == FakeGuest.bootID)
        #expect(facts.isRoot == (getuid() == 0))
        #expect(
            facts.module("vusb_hcd")
                == GuestFacts.Module(
                    name: "vusb_hcd", referenceCount: 0, users: [], version: "0.1.0", sourceVersion: "AAAA"
                )
        )
        #expect(facts.module("vusb_channel")?.users == ["vusb_hcd"])
        #expect(facts.module("vusb_channel")?.referenceCount == 1)
        #expect(facts.path == "/mnt/vusb/hcd")
        #expect(facts.mount == GuestFacts.Mount(type: "virtiofs", source: "vusb0"))
        #expect(facts.lockdown == "integrity")
        #expect(!facts.demandsSignature && !facts.isLoadingDisabled && !facts.isUnloadable && !facts.isBuiltIn)
        #expect(facts.present == ["vusb_hcd", "usb_common", "module"])
        #expect(facts.vermagic == nil)
        #expect(try await self.facts(shell, brief: true).present.isEmpty)
    }

    /// Plain and as distributions compress it.
    @Test(arguments: shells, ["", "xz", "gzip", "zstd"])
    func theVermagicComesFromAModuleOfTheGuests(shell: [String], program: String) async throws {
        try makeFacts()
        let tree = "lib/modules/\(Self.release)"
        let module = ModuleBytes("crc", vermagic: "\(Self.release) SMP preempt mod_unload ")
        try folder.write("\(tree)/kernel/lib/crc.ko", module.bytes)
        var name = "crc.ko"
        if !program.isEmpty {
            let ending = ["xz": "xz", "gzip": "gz", "zstd": "zst"][program] ?? ""
            let file = "\(folder.path)/\(tree)/kernel/lib/crc.ko"
            let output = try await kernel.run("/usr/bin/\(program)", ["-c", file], limit: .seconds(20)).output
            name += "." + ending
            try FileManager.default.removeItem(atPath: file)
            try folder.write("\(tree)/kernel/lib/\(name)", output)
        }
        try folder.write(
            "\(tree)/modules.dep",
            "updates/dkms/vusb_hcd.ko.xz: updates/dkms/vusb_channel.ko.xz\nkernel/lib/\(name): kernel/a.ko\n"
        )
        let facts = try await facts(shell)
        #expect(facts.vermagic?.description == "\(Self.release) SMP preempt mod_unload")
        #expect(facts.ownFile == "updates/dkms/vusb_hcd.ko.xz")
        #expect(facts.sample?.hasSuffix("/kernel/lib/\(name)") == true)
    }

    @Test(arguments: shells) func withoutModulesDepAnyModuleWillDo(shell: [String]) async throws {
        try makeFacts()
        let module = ModuleBytes("crc", vermagic: "\(Self.release) SMP ")
        try folder.write("lib/modules/\(Self.release)/some/where/crc.ko", module.bytes)
        #expect(try await facts(shell).vermagic?.flags == ["SMP"])
    }

    @Test(arguments: shells) func aModuleThatIsBuiltInIsSeen(shell: [String]) async throws {
        try makeFacts()
        try FileManager.default.removeItem(atPath: folder.path + "/sys/module/vusb_hcd/initstate")
        #expect(try await facts(shell).isBuiltIn)
        try FileManager.default.removeItem(atPath: folder.path + "/sys/module/vusb_hcd")
        #expect(try await !facts(shell).isBuiltIn)
        try folder.write("lib/modules/\(Self.release)/modules.builtin", "kernel/drivers/usb/vusb_hcd.ko\n")
        #expect(try await facts(shell).isBuiltIn)
    }

    @Test(arguments: shells) func aKernelWithoutModulesIsSeen(shell: [String]) async throws {
        try makeFacts()
        try FileManager.default.removeItem(atPath: folder.path + "/proc/modules")
        let facts = try await facts(shell)
        #expect(facts.isUnloadable && facts.modules.isEmpty)
    }

    // MARK: - Preparing

    @Test(arguments: shells) func theChannelsFileIsLookedFor(shell: [String]) async throws {
        #expect(try await run(shell, GuestScript.prepare, ["/vusb/hcd"]).end == .exited(4))
        try folder.write("vusb/guests/web1/hcd", "")
        #expect(try await run(shell, GuestScript.prepare, ["/vusb/hcd"]).end == .exited(5))
        try folder.write("vusb/hcd", "")
        #expect(try await run(shell, GuestScript.prepare, ["/vusb/hcd"]).succeeded)
    }

    @Test(arguments: shells) func aModuleThatIsNowhereIsNamed(shell: [String]) async throws {
        try folder.write("vusb/hcd", "")
        let result = try await run(shell, GuestScript.prepare, ["/vusb/hcd", "no-such_module"])
        #expect(result.end == .exited(3))
        #expect(String(decoding: result.output, as: UTF8.self) == "failed no-such_module\n")
        try folder.write("lib/modules/\(Self.release)/modules.builtin", "kernel/lib/no_such_module.ko\n")
        #expect(try await run(shell, GuestScript.prepare, ["/vusb/hcd", "no-such_module"]).succeeded)
    }

    @Test(arguments: shells) func aMountOfAnUnknownKindOrPlaceEndsWithThree(shell: [String]) async throws {
        try folder.write("file", "")
        #expect(try await run(shell, GuestScript.mount, ["virtiofs", "t", folder.path + "/file/x"]).end == .exited(3))
        #expect(try await run(shell, GuestScript.mount, ["ext4", "t", folder.path + "/x"]).end == .exited(3))
    }

    // MARK: - Users

    private static let usb3 = "/devices/platform/vusb_hcd.0/usb3"

    private func node(_ kind: String, _ number: String, _ name: String, _ path: String) throws {
        try folder.write("sys\(path)/uevent", "MAJOR=1\nDEVNAME=\(name)\nX=1\n")
        try folder.link("sys/dev/\(kind)/\(number)", to: "../..\(path)")
    }

    private func users(_ shell: [String]) async throws -> [GuestUser] {
        let result = try await run(shell, GuestScript.users, [])
        return GuestUserList(try #require(GuestAnswer(parsing: result.output, of: "vusb-users-1"))).users
    }

    private func process(_ pid: Int, _ command: String, _ files: String...) throws {
        try folder.write("proc/\(pid)/comm", command + "\n")
        for (index, file) in files.enumerated() { try folder.link("proc/\(pid)/fd/\(index)", to: file) }
    }

    private func makeDevices() throws {
        let disk = Self.usb3 + "/3-1/3-1:1.0/host2/target2:0:0/2:0:0:0/block/sda"
        try node("block", "8:0", "sda", disk)
        for part in 1...4 { try node("block", "8:\(part)", "sda\(part)", "\(disk)/sda\(part)") }
        try node("block", "254:0", "vda", "/devices/pci0000:00/virtio0/block/vda")
        try node("char", "166:0", "ttyACM0", Self.usb3 + "/3-2/3-2.4/3-2.4:1.0/tty/ttyACM0")
        try node("char", "189:257", "bus/usb/003/002", Self.usb3 + "/3-1")
        try node("char", "189:256", "bus/usb/003/001", Self.usb3)
        try node("char", "13:64", "input/event0", Self.usb3 + "/3-3/3-3:1.0/0003:1/input/input0/event0")
        try node("char", "4:64", "ttyS0", "/devices/platform/serial8250/tty/ttyS0")
        try folder.write("sys\(disk)/sda3/holders/dm-0/dm/name", "crypt disk\n")
        try folder.write(
            "proc/self/mountinfo",
            """
            22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
            40 22 8:1 / /mnt/a\\040b rw,relatime - vfat /dev/disk/by-label/X rw
            41 22 0:55 /sub /mnt/btrfs rw - btrfs /dev/sda4 rw,subvol=/sub

            """
        )
        try folder.write(
            "proc/swaps", "Filename\t\t\t\tType\nSize\n/dev/sda2                               partition\t1\n"
        )
        try folder.write("dev/null", "")
        try folder.write("sys\(Self.usb3)/3-4/3-4:2.0/net/usb0/flags", "0x1003\n")
        try folder.link("sys/class/net/usb0", to: "../..\(Self.usb3)/3-4/3-4:2.0/net/usb0")
        try folder.write("sys\(Self.usb3)/3-5/3-5:2.0/net/usb1/flags", "0x1002\n")
        try folder.link("sys/class/net/usb1", to: "../..\(Self.usb3)/3-5/3-5:2.0/net/usb1")
    }

    @Test(arguments: shells) func everyKindOfUserIsNamedWithItsDevice(shell: [String]) async throws {
        try makeDevices()
        try process(812, "cat", "/dev/ttyACM0", "/dev/vda", "/dev/ttyACM0", "pipe:[1]")
        try process(7, "systemd-logind", "/dev/input/event0")
        try process(900, "Xorg (main)", "/dev/input/event0")
        try process(901, "fwupd", "/dev/bus/usb/003/002")
        try process(902, "other", "/dev/ttyS0", "/dev/bus/usb/003/001", "/dev/sda11", "/dev/ttyACM01")
        #expect(
            try await users(shell) == [
                GuestUser(device: "3-1", text: "/dev/bus/usb/003/002 open by fwupd (901)"),
                GuestUser(device: "3-1", text: "/dev/sda1 mounted on /mnt/a b"),
                GuestUser(device: "3-1", text: "/dev/sda2 used as swap"),
                GuestUser(device: "3-1", text: "/dev/sda3 held by dm-0 (crypt disk)"),
                GuestUser(device: "3-1", text: "/dev/sda4 mounted on /mnt/btrfs"),
                GuestUser(device: "3-2.4", text: "/dev/ttyACM0 open by cat (812)"),
                GuestUser(device: "3-3", text: "/dev/input/event0 open by Xorg (main) (900)"),
                GuestUser(device: "3-4", text: "network interface usb0 is up"),
            ]
        )
    }

    @Test(arguments: shells) func ofASingleProcessTheFilesAreSeenAsWell(shell: [String]) async throws {
        try makeDevices()
        try process(1, "init", "/dev/ttyACM0")
        #expect(try await users(shell).contains(GuestUser(device: "3-2.4", text: "/dev/ttyACM0 open by init (1)")))
    }

    @Test(arguments: shells) func usersOfAMountAreFound(shell: [String]) async throws {
        try process(812, "tail -f", "/dev/null", "/vusb/log")
        try process(813, "other", "/vusb2/log", "/dev/vusb")
        for (pid, command, link) in [(814, "sh", "cwd"), (815, "chrooted", "root"), (816, "runs", "exe")] {
            try process(pid, command)
            try folder.link("proc/\(pid)/\(link)", to: pid == 814 ? "/vusb" : "/vusb/x")
        }
        let result = try await run(shell, GuestScript.mountUsers, ["/vusb"])
        let users = ModuleLoader.mountUsers(GuestAnswer(parsing: result.output, of: "vusb-mount-users-1"))
        #expect(Set(users) == ["tail -f (812)", "sh (814)", "chrooted (815)", "runs (816)"])
    }

    @Test(arguments: shells) func aGuestWithoutDevicesHasNoUsers(shell: [String]) async throws {
        #expect(try await users(shell).isEmpty)
    }

    /// This machine's own /proc and /sys, whatever they hold.
    @Test(arguments: shells) func theScriptsRunOnTheRealTree(shell: [String]) async throws {
        for (script, name, arguments) in [
            (GuestScript.facts, "vusb-facts-1", ["/vusb", "whole"]), (GuestScript.users, "vusb-users-1", []),
            (GuestScript.mountUsers, "vusb-mount-users-1", ["/vusb"]),
        ] {
            let result = try await kernel.run(
                shell[0], shell.dropFirst() + ["-c", script, "vusb", ""] + arguments, limit: .seconds(60)
            )
            #expect(result.succeeded)
            #expect(GuestAnswer(parsing: result.output, of: name) != nil)
        }
    }

    // MARK: - Attaching from inside

    @Test(arguments: shells) func waysToAttachAreFound(shell: [String]) async throws {
        try folder.write("proc/sys/kernel/random/boot_id", FakeGuest.bootID + "\n")
        try folder.write("proc/modules", "vhci_hcd 65536 0 - Live 0x0000000000000000\n")
        try folder.write("sys/devices/platform/vhci_hcd.0/status", "")
        try folder.write("dev/vsock", "")
        for (port, name) in [("vport1p1", "org.qemu.guest_agent.0"), ("vport1p2", "org.vusb.usbip.0")] {
            try folder.write("sys/class/virtio-ports/\(port)/name", name + "\n")
        }
        try folder.write("sys/class/virtio-ports/vport1p3/name", "")
        try folder.write(
            "proc/net/route",
            """
            Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
            eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
            eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0

            """
        )
        let result = try await run(shell, GuestScript.attachFacts, ["/run/vusb-1/vusb-attach"])
        let answer = try #require(GuestAnswer(parsing: result.output, of: "vusb-attach-facts-1"))
        let facts = try AttachFacts(answer, guest: "guest web1")
        #expect(facts.kernel.release == Self.release)
        #expect(facts.kernel.module("vhci_hcd") != nil && facts.hasVHCI && !facts.hasCopy)
        let addresses: [AttachAddress] = [
            .unix(path: "/x"), .tcp(host: "127.0.0.1", port: 1), .tcp(host: "0.0.0.0", port: 2), .vsock(port: 3),
        ]
        #expect(
            facts.streams(to: addresses).map(\.description) == [
                "vsock:2:3", "tcp:10.0.2.2:1", "tcp:10.0.2.2:2", "serial:/dev/vport1p2",
            ])
    }

    @Test(arguments: shells) func aProgramIsPutWhereItCanBeRun(shell: [String]) async throws {
        try folder.write("tmp/x", "")
        let made = try await run(shell, GuestScript.makeDirectory, ["vusb-1"])
        #expect(made.succeeded && made.output == Array("/tmp/vusb-1\n".utf8))
        try folder.write("tmp/vusb-1/vusb-attach", "#!/bin/sh\nexit 2\n")
        let path = "/tmp/vusb-1/vusb-attach"
        #expect(try await run(shell, GuestScript.makeProgram, [path]).succeeded)
        try folder.write("tmp/vusb-1/vusb-attach", "#!/bin/sh\nexit 126\n")
        #expect(try await run(shell, GuestScript.makeProgram, [path]).end == .exited(3))
        // One that is there already may be anybody's.
        #expect(try await run(shell, GuestScript.makeDirectory, ["vusb-1"]).end == .exited(3))
        #expect(try await run(shell, GuestScript.removeDirectory, ["/tmp/vusb-1"]).succeeded)
        #expect(!FileManager.default.fileExists(atPath: folder.path + "/tmp/vusb-1"))
    }

    @Test(arguments: shells) func portsInUseAreFound(shell: [String]) async throws {
        let place = "sys/devices/platform/vhci_hcd.0/"
        try folder.write(
            place + "status",
            """
            hub port sta spd dev      sockfd local_busid
            hs  0000 004 000 00000000 000000 0-0
            hs  0001 006 003 00010002 000003 1-1
            ss  0008 005 000 00000000 000000 0-0

            """
        )
        try folder.write(place + "status.1", "hub port sta spd\nss  0024 006 005 00010003 000003 4-1\n")
        let result = try await run(shell, GuestScript.vhciPorts, [])
        let answer = try #require(GuestAnswer(parsing: result.output, of: "vusb-vhci-ports-1"))
        #expect(answer.values("port") == ["0001", "0008", "0024"])
    }
}

@Suite struct GuestAnswerTests {
    private func parse(_ text: String) -> GuestAnswer? { GuestAnswer(parsing: Array(text.utf8), of: "x-1") }

    @Test(arguments: ["", "x-1\n", "x-1\na b\n", "y-1\na b\nend 1\n", "a b\nend 1\n", "end 1\n"])
    func whatIsNotBetweenItsFirstAndLastLineIsNoAnswer(text: String) { #expect(parse(text) == nil) }

    @Test func anAnswerOfTooManyLinesOrBytesIsNone() {
        #expect(parse("x-1\n" + String(repeating: "a b\n", count: 2001) + "end 1\n") == nil)
        #expect(parse("x-1\na " + String(repeating: "b", count: 256 << 10) + "\nend 1\n") == nil)
    }

    @Test func valuesAreOneLineWithoutControlCharacters() throws {
        let answer = try #require(parse("x-1\na \u{1b}]0;x\u{7} \u{fffd}b\r\na\nend 1\n"))
        #expect(answer.value("a") == "?]0;x? \u{fffd}b?")
        #expect(answer.values("a").count == 2)
    }

    @Test func factsThatLackReleaseOrBootAreRefused() throws {
        for text in [
            "release 6.1", "boot x", "release ../x\nboot x", "release 6.1\nboot \(String(repeating: "x", count: 65))",
        ] {
            let answer = try #require(parse("x-1\n\(text)\nend 1\n"))
            #expect(throws: USBError.self) { try GuestFacts(answer, guest: "guest web1") }
        }
    }

    @Test(arguments: ["vusb_hcd", "vusb_hcd x -", "vusb_hcd 0", "other 0 -", "vusb_hcd 99999999999999999999 -"])
    func aModulesLineThatIsNoneIsLeftOut(line: String) throws {
        let answer = try #require(parse("x-1\nrelease 6.1\nboot x\nmodule \(line)\nend 1\n"))
        #expect(try GuestFacts(answer, guest: "guest web1").modules.isEmpty)
    }

    @Test func usersThatAreNotWhatTheySayAreLeftOut() throws {
        let answer = try #require(
            parse(
                """
                x-1
                node c 1:1 x /devices/platform/vusb_hcd.0/usb3/3-1/x
                node c 1:1 y /devices/nothing
                node c
                open x notanumber cat
                open y 1 cat
                mount x short
                holder x
                up eth0 /devices/nothing
                open x 1
                end 1

                """
            )
        )
        #expect(GuestUserList(answer).users == [GuestUser(device: "3-1", text: "/dev/x open by ? (1)")])
    }

    @Test func aGuestThatNamesThousandsOfUsersIsCut() throws {
        let lines = (0..<1500).map { "open x \($0) cat" }.joined(separator: "\n")
        let node = "node c 1:1 x /devices/platform/vusb_hcd.0/usb3/3-1/x"
        let answer = try #require(parse("x-1\n\(node)\n\(lines)\nend 1\n"))
        #expect(GuestUserList(answer).users.count == 200)
    }
}
