// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore

@testable import VUSBVMM

@Suite struct ModuleLoaderTests {
    private let folder: TemporaryFolder
    private let share = GuestShare(kind: .virtiofs, tag: "vusb0")
    private static let path = "/vusb/hcd"

    init() throws {
        folder = try TemporaryFolder()
        try write(ModuleBytes("vusb_channel", depends: ""), ModuleBytes("vusb_hcd", depends: "vusb_channel,usbcore"))
    }

    private func write(_ modules: ModuleBytes...) throws {
        for (name, module) in zip(ModuleStore.modules, modules) { try folder.write("\(name).ko", module.bytes) }
    }

    private func loader(_ guest: FakeGuest) -> ModuleLoader {
        ModuleLoader(kernel: guest, store: ModuleStore(directories: [folder.path])) { _ in }
    }

    /// Loads, sees that all expected calls came, and gives what came of it.
    private func load(
        _ calls: [(FakeGuest.Call, FakeGuest.Answer)], _ share: GuestShare? = nil, steps: Steps = Steps(),
        path: String = Self.path
    ) async -> Result<LoadedModules, USBError> {
        let guest = FakeGuest(calls)
        defer { #expect(guest.isDone) }
        do throws(USBError) {
            return .success(
                try await loader(guest).load(share ?? self.share, channelPath: path) { steps.add($0) }
            )
        } catch {
            return .failure(error)
        }
    }

    private func failure(
        _ calls: [(FakeGuest.Call, FakeGuest.Answer)], _ share: GuestShare? = nil
    ) async throws -> USBError {
        switch await load(calls, share) {
        case .failure(let error): return error
        case .success(let loaded):
            Issue.record("loaded \(loaded)")
            throw USBError(.io, "loaded")
        }
    }

    private static let factsCall = FakeGuest.Call.facts(at: "/vusb", brief: false)
    private static let insertions: [(FakeGuest.Call, FakeGuest.Answer)] = [
        (.insmod("vusb_channel", parameters: ""), .done), (.insmod("vusb_hcd", parameters: "path=/vusb/hcd"), .done),
    ]
    private static let mounted = [
        (FakeGuest.Call.mount(["virtiofs", "vusb0", "/vusb"]), FakeGuest.Answer.exit(0)),
        (.prepare([path]), .exit(0)),
    ]

    // MARK: - What goes well

    @Test func aGuestWithNothingGetsMountAndBothModulesInOrder() async throws {
        let steps = Steps()
        let calls = [(Self.factsCall, FakeGuest.facts())] + Self.mounted + Self.insertions
        let loaded = try await load(calls, steps: steps).get()
        #expect(
            loaded
                == LoadedModules(
                    bootID: FakeGuest.bootID, modules: ["vusb_channel", "vusb_hcd"], mountedAt: "/vusb"
                )
        )
        #expect(
            steps.all == [
                "its kernel is 6.1.0-56-amd64", "build 0.1.0 in \(folder.path)", "mounting /vusb",
                "loading vusb_channel, 0 KiB", "loading vusb_hcd, 0 KiB",
            ]
        )
    }

    @Test func ninePIsMountedByItsOwnKind() async throws {
        let share = GuestShare(kind: .ninep, tag: "vusb0", path: "/mnt/vusb")
        let loaded = try await load(
            [
                (.facts(at: "/mnt/vusb", brief: false), FakeGuest.facts()),
                (.mount(["9p", "vusb0", "/mnt/vusb"]), .exit(0)),
                (.prepare(["/mnt/vusb/hcd"]), .exit(0)),
                (.insmod("vusb_channel", parameters: ""), .done),
                (.insmod("vusb_hcd", parameters: "path=/mnt/vusb/hcd"), .done),
            ], share, path: "/mnt/vusb/hcd"
        ).get()
        #expect(loaded.mountedAt == "/mnt/vusb")
    }

    @Test func whatIsMountedAlreadyIsNotOursToUnmount() async throws {
        let loaded = try await load(
            [(Self.factsCall, FakeGuest.facts(["mount virtiofs vusb0"])), (.prepare([Self.path]), .exit(0))]
                + Self.insertions
        ).get()
        #expect(loaded.mountedAt == nil)
    }

    @Test func aGuestOnTheHostNeedsNoMount() async throws {
        let path = "/vusb/guests/web1/hcd"
        let loaded = try await load(
            [
                (.facts(at: "/vusb/guests/web1", brief: false), FakeGuest.facts(["mount fuse.vusb vusb"])),
                (.prepare([path]), .exit(0)), (.insmod("vusb_channel", parameters: ""), .done),
                (.insmod("vusb_hcd", parameters: "path=\(path)"), .done),
            ], GuestShare(kind: .host, path: "/vusb/guests/web1"), path: path
        ).get()
        #expect(loaded.mountedAt == nil)
    }

    @Test func modulesThatOursNeedAreLoadedWhereTheyAreNotThere() async throws {
        let loaded = try await load(
            [
                (Self.factsCall, FakeGuest.facts(["present virtio", "mount virtiofs vusb0"])),
                (.prepare([Self.path, "usbcore"]), .exit(0)),
            ] + Self.insertions
        ).get()
        // They stay: others may use them by now.
        #expect(loaded.modules == ["vusb_channel", "vusb_hcd"])
    }

    @Test func aModuleThatIsThereWithOurPathIsUsedAndStays() async throws {
        let facts = FakeGuest.facts(FakeGuest.bothLoaded + ["path /vusb/hcd"])
        let loaded = try await load([(Self.factsCall, facts)] + Self.mounted).get()
        #expect(loaded.modules == [])
        #expect(loaded.mountedAt == "/vusb")
    }

    @Test func aModuleThatIsBuiltInWithOurPathIsUsed() async throws {
        let loaded = try await load(
            [(Self.factsCall, FakeGuest.facts(["builtin 1", "path /vusb/hcd"]))] + Self.mounted
        )
        .get()
        #expect(loaded.modules == [])
    }

    @Test func aChannelLeftOfTheSameSourcesIsUsedAndNotOursToUnload() async throws {
        let facts = FakeGuest.facts(["module vusb_channel 1 - Live", "srcversion.vusb_channel AAAA"])
        let loaded = try await load([(Self.factsCall, facts)] + Self.mounted + [Self.insertions[1]]).get()
        #expect(loaded.modules == ["vusb_hcd"])
    }

    @Test func signedModulesAreGivenToAKernelThatDemandsSignatures() async throws {
        for (name, depends) in [("vusb_channel", ""), ("vusb_hcd", "usbcore")] {
            var module = ModuleBytes(name, depends: depends)
            module.isSigned = true
            try folder.write("\(name).ko", module.bytes)
        }
        let steps = Steps()
        _ = try await load(
            [(Self.factsCall, FakeGuest.facts(["enforce Y"]))] + Self.mounted + Self.insertions, steps: steps
        ).get()
        #expect(steps.all.contains { $0.contains("demands signatures") })
    }

    @Test func aVermagicThatTheGuestCannotTellIsReadFromItsModule() async throws {
        let sample = "/lib/modules/x/kernel/a.ko"
        let loaded = await load(
            [
                (Self.factsCall, FakeGuest.facts(["vermagic nothing/of/it"])),
                (.read(sample), .bytes(ModuleBytes("a").bytes)),
            ] + Self.mounted + Self.insertions
        )
        #expect(throws: Never.self) { try loaded.get() }
    }

    @Test func withoutAnyVermagicTheReleaseIsComparedAndThatIsSaid() async throws {
        let steps = Steps()
        let facts = FakeGuest.facts(["vermagic ?/", "sample /lib/modules/x/a.ko.xz"])
        _ = try await load([(Self.factsCall, facts)] + Self.mounted + Self.insertions, steps: steps).get()
        #expect(steps.all.contains("its vermagic isn't known: only its release is compared"))
    }

    @Test func aLongCopyIsToldByQuarters() async throws {
        // Behind the table of sections; nobody looks there.
        try folder.write("vusb_hcd.ko", ModuleBytes("vusb_hcd").bytes + [UInt8](repeating: 0, count: 200 << 10))
        let steps = Steps()
        _ = try await load(
            [(Self.factsCall, FakeGuest.facts(["mount virtiofs vusb0"])), (.prepare([Self.path]), .exit(0))]
                + Self.insertions, steps: steps
        ).get()
        let told = steps.all.filter { $0.hasSuffix("copied") }
        #expect(told == [25, 50, 75].map { "loading vusb_hcd: \($0) % copied" })
    }
}

/// Every failure names its step and a remedy, and nothing more is done in the guest than what is expected here.
extension ModuleLoaderTests {
    @Test func aGuestThatCannotBeAskedIsToldAsItSays() async throws {
        let error = try await failure([
            (Self.factsCall, .failure(USBError(.unsupported, "guest-exec is blocked", remedy: "allow it")))
        ])
        #expect(error.code == .unsupported)
        #expect(error.message == "ask the guest: guest-exec is blocked")
        #expect(error.remedy == "allow it")
    }

    @Test func aGuestWithoutAShellIsTold() async throws {
        let error = try await failure([(Self.factsCall, .failure(USBError(.notFound, "no such file")))])
        #expect(error.message.contains("guest web1 has no /bin/sh"))
    }

    @Test func anAnswerThatIsCutOffIsNone() async throws {
        let answer = FakeGuest.Answer.lines(["vusb-facts-1", "release 6.1.0-56-amd64", "boot x"])
        let error = try await failure([(Self.factsCall, answer)])
        #expect(error.code == .io)
        #expect(error.message.contains("gave no whole answer"))
    }

    /// What the facts say, the code, and words of message and remedy.
    @Test(arguments: [
        (["unloadable 1"], USBError.Code.unsupported, "built without modules", "CONFIG_MODULES"),
        (["uid 1000"], .accessDenied, "isn't root", "as root"),
        (["disabled 1"], .accessDenied, "takes no more modules", "kernel.modules_disabled"),
        (["enforce Y"], .accessDenied, "demands signatures (module.sig_enforce), and", "enrolled"),
        (["lockdown none [integrity] confidentiality"], .accessDenied, "locked down (integrity)", "Secure Boot"),
        (["machine aarch64"], .invalid, "another processor than the guest's aarch64", "ARCH"),
        (["builtin 1"], .unsupported, "built into its kernel", "vusb_hcd.path=/vusb/hcd"),
        (["builtin 1", "path /dev/x"], .unsupported, "built into its kernel, with path=/dev/x", "boot it"),
        (["module vusb_hcd 2 xyz, Live", "path /other"], .busy, "already with path=/other, in use by xyz", "rmmod"),
        (
            ["module vusb_channel 1 - Live", "version.vusb_channel 9", "srcversion.vusb_channel B"], .busy,
            "another vusb_channel is loaded there, version 9 (B), ours is 0.1.0 (AAAA)", "rmmod vusb_channel"
        ),
        (
            ["vermagic 6.1.0-56-amd64 SMP preempt_rt mod_unload"], .invalid,
            "the kernel has 6.1.0-56-amd64 SMP preempt_rt mod_unload", "KVER=6.1.0-56-amd64"
        ),
        (
            ["release 6.12.1", "vermagic 6.12.1 SMP"], .notFound,
            "6.12.1, vermagic 6.12.1 SMP; there are builds for vermagic 6.1.0-56-amd64 SMP preempt", "KVER=6.12.1"
        ),
    ])
    func whatSpeaksAgainstLoadingIsSaidBeforeAnythingIsSent(
        facts: [String], code: USBError.Code, message: String, remedy: String
    ) async throws {
        let error = try await failure([(Self.factsCall, FakeGuest.facts(facts))])
        #expect(error.code == code)
        #expect(error.message.contains(message), "\(error.message)")
        #expect(error.remedy?.contains(remedy) == true, "\(error.remedy ?? "")")
    }

    @Test func anotherMountAtThatPlaceIsNotMountedOver() async throws {
        let error = try await failure([(Self.factsCall, FakeGuest.facts(["mount ext4 /dev/vda1"]))])
        #expect(error.code == .busy)
        #expect(error.message == "mount /vusb: /dev/vda1 of type ext4 is mounted there")
    }

    /// As util-linux and busybox say it.
    @Test(arguments: [
        ("mount: /vusb: unknown filesystem type 'virtiofs'.", USBError.Code.unsupported, "module virtiofs"),
        ("mount: mounting vusb0 on /vusb failed: No such device", .notFound, "tag=vusb0"),
        (
            "mount: /vusb: wrong fs type, bad option, bad superblock on vusb0, missing codepage", .notFound,
            "vhost-user-fs-pci,tag=vusb0"
        ),
        ("mount: /vusb: permission denied.", .accessDenied, "as root"),
        ("something else", .io, "dmesg"),
    ])
    func aMountThatFailsIsExplained(said: String, code: USBError.Code, remedy: String) async throws {
        let error = try await failure([
            (Self.factsCall, FakeGuest.facts()),
            (.mount(["virtiofs", "vusb0", "/vusb"]), .exit(4, errors: said + "\n")),
        ])
        #expect(error.code == code)
        #expect(error.message == "mount /vusb: \(said)")
        #expect(error.remedy?.contains(remedy) == true)
    }

    @Test(arguments: [
        (FakeGuest.Answer.exit(4), USBError.Code.notFound, "/vusb/hcd isn't there"),
        (.exit(5), .invalid, "sees the whole of /vusb"),
        (
            .exit(3, output: "failed usbcore\n", errors: "modprobe: FATAL: x\n"), .notFound,
            "usbcore: modprobe: FATAL: x"
        ),
        (.exit(127, errors: "sh: broken"), .io, "sh: broken"),
    ])
    func whatIsNotReadyIsToldAndTheMountTakenBack(
        answer: FakeGuest.Answer, code: USBError.Code, message: String
    ) async throws {
        let error = try await failure([
            (Self.factsCall, FakeGuest.facts()), Self.mounted[0], (.prepare([Self.path]), answer),
            (.facts(at: "/vusb", brief: true), FakeGuest.brief(["mount virtiofs vusb0"])),
            (.unmount("/vusb"), .exit(0)),
        ])
        #expect(error.code == code)
        #expect(error.message.contains(message), "\(error.message)")
    }

    @Test func aModuleThatTheKernelRefusesIsToldWithItsLogAndAllIsTakenBackInReverse() async throws {
        let error = try await failure(
            [(Self.factsCall, FakeGuest.facts())] + Self.mounted + [
                Self.insertions[0],
                (
                    .insmod("vusb_hcd", parameters: "path=/vusb/hcd"),
                    .failure(USBError(.invalid, "insmod: Invalid argument"))
                ),
                (.log, .exit(0, output: "[ 1.0] vusb_hcd: disagrees about version of symbol usb_add_hcd\n")),
                (
                    .facts(at: "/vusb", brief: true),
                    FakeGuest.brief(["module vusb_channel 0 - Live", "mount virtiofs vusb0"])
                ),
                (.rmmod("vusb_channel"), .done), (.unmount("/vusb"), .exit(0)),
            ]
        )
        #expect(error.code == .invalid)
        #expect(
            error.message
                == "load vusb_hcd: insmod: Invalid argument; its kernel says: "
                + "[ 1.0] vusb_hcd: disagrees about version of symbol usb_add_hcd"
        )
        #expect(error.remedy?.contains("KVER=6.1.0-56-amd64") == true)
    }

    @Test func whatCannotBeTakenBackIsSaid() async throws {
        let error = try await failure(
            [(Self.factsCall, FakeGuest.facts())] + Self.mounted + [
                (.insmod("vusb_channel", parameters: ""), .failure(USBError(.timedOut, "no answer", remedy: "wait"))),
                (.log, .failure(USBError(.timedOut, "no answer"))),
                (.facts(at: "/vusb", brief: true), .failure(USBError(.timedOut, "no answer still"))),
            ]
        )
        #expect(error.code == .timedOut)
        #expect(
            error.message
                == "load vusb_channel: no answer; undoing it failed as well: ask the guest: no answer still"
        )
        #expect(error.remedy == "wait")
    }

    /// A cancelled task can't ask a guest any more; what was done is taken back all the same.
    @Test func aCancelledLoadIsTakenBack() async throws {
        let guest = FakeGuest(
            [(Self.factsCall, FakeGuest.facts())] + Self.mounted + [
                (.insmod("vusb_channel", parameters: ""), .failure(USBError(.cancelled, "cancelled"))),
                (.facts(at: "/vusb", brief: true), FakeGuest.brief(["mount virtiofs vusb0"])),
                (.unmount("/vusb"), .exit(0)),
            ]
        )
        let (loader, share) = (loader(guest), share)
        let task = Task { () async -> USBError.Code? in
            // From the beginning: the guest notes which calls come from a cancelled task.
            unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
            do throws(USBError) {
                _ = try await loader.load(share, channelPath: Self.path) { _ in }
                return nil
            } catch {
                return error.code
            }
        }
        #expect(await task.value == .cancelled)
        #expect(guest.isDone)
        #expect(guest.cancelled == [true, true, true, true, false, false])
    }

    @Test(arguments: [
        GuestShare(kind: .virtiofs, tag: nil), GuestShare(kind: .virtiofs, tag: "-o"),
        GuestShare(kind: .virtiofs, tag: "a b"), GuestShare(kind: .virtiofs, tag: "vusb", path: "vusb"),
        GuestShare(kind: .ninep, tag: "vusb", path: "/a b"), GuestShare(kind: .host, path: "/$(reboot)"),
        GuestShare(kind: .virtiofs, tag: String(repeating: "a", count: 37)),
    ])
    func whatAShellOrAModuleCouldTakeForSomethingElseIsRefusedFirst(share: GuestShare) async throws {
        let error = try await failure([], share)
        #expect(error.code == .invalid)
    }
}
