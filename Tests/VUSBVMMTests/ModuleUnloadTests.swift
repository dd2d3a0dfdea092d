// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore

@testable import VUSBVMM

@Suite struct ModuleUnloadTests {
    private static let loaded = LoadedModules(
        bootID: FakeGuest.bootID, modules: ["vusb_channel", "vusb_hcd"], mountedAt: "/vusb"
    )
    private static let factsCall = FakeGuest.Call.facts(at: "/vusb", brief: true)
    private static let nobody = (FakeGuest.Call.users, FakeGuest.Answer.lines(["vusb-users-1", "end 1"]))
    private static let busy = FakeGuest.Answer.failure(USBError(.busy, "in use"))

    private final class Pauses: Sendable {
        let all = Mutex<[Duration]>([])
    }

    @discardableResult private func unload(
        _ calls: [(FakeGuest.Call, FakeGuest.Answer)], _ loaded: LoadedModules = Self.loaded,
        pauses: Pauses = Pauses(), steps: Steps = Steps()
    ) async throws(USBError) -> UnloadEnd {
        let guest = FakeGuest(calls)
        defer { #expect(guest.isDone) }
        let loader = ModuleLoader(kernel: guest, store: ModuleStore(directories: [])) { pause in
            pauses.all.withLock { $0.append(pause) }
        }
        return try await loader.unload(loaded, step: { steps.add($0) })
    }

    @Test func modulesGoInReverseOrderThenTheMount() async throws {
        let steps = Steps()
        let end = try await unload(
            [
                Self.nobody, (Self.factsCall, FakeGuest.brief(FakeGuest.bothLoaded + ["mount virtiofs vusb0"])),
                (.rmmod("vusb_hcd"), .done), (.rmmod("vusb_channel"), .done), (.unmount("/vusb"), .exit(0)),
            ], steps: steps
        )
        guard case .out = end else { return #expect(Bool(false), "\(end)") }
        #expect(steps.all == ["unloading vusb_hcd", "unloading vusb_channel", "unmounting /vusb"])
    }

    @Test func whatWasNotLoadedByUsStays() async throws {
        let steps = Steps()
        try await unload([], LoadedModules(bootID: FakeGuest.bootID, modules: []), steps: steps)
        #expect(steps.all == ["the module wasn't loaded by us: it stays"])
    }

    @Test func afterARebootNothingIsTouched() async throws {
        try await unload([Self.nobody, (Self.factsCall, FakeGuest.brief(FakeGuest.bothLoaded, boot: "another"))])
    }

    @Test func whatIsOutAlreadyIsPassedOver() async throws {
        try await unload([
            Self.nobody, (Self.factsCall, FakeGuest.brief(["module vusb_channel 0 - Live"])),
            (.rmmod("vusb_channel"), .failure(USBError(.notFound, "isn't loaded"))),
        ])
    }

    @Test func aMountOfSomethingElseAtOurPlaceStays() async throws {
        try await unload([Self.nobody, (Self.factsCall, FakeGuest.brief(["mount ext4 /dev/vdb"]))])
    }

    @Test func usersAreNamedAndNothingIsUnloaded() async throws {
        let users = FakeGuest.Answer.lines([
            "vusb-users-1", "node b 8:1 sda1 /devices/platform/vusb_hcd.0/usb3/3-1/3-1:1.0/host2/block/sda/sda1",
            "mount sda1 40 1 8:1 / /mnt\\040disk rw - ext4 /dev/sda1 rw", "end 1",
        ])
        let error = await #expect(throws: USBError.self) { try await unload([(.users, users)]) }
        #expect(error?.code == .busy)
        #expect(error?.message == "unload vusb_hcd: /dev/sda1 mounted on /mnt disk")
    }

    @Test func whatIsBusyForAMomentIsTriedAgain() async throws {
        let pauses = Pauses()
        try await unload(
            [
                Self.nobody, (Self.factsCall, FakeGuest.brief(FakeGuest.bothLoaded + ["mount 9p vusb0"])),
                (.rmmod("vusb_hcd"), .done), (.rmmod("vusb_channel"), Self.busy), (.rmmod("vusb_channel"), .done),
                (.unmount("/vusb"), .exit(32, errors: "umount: /vusb: target is busy.")), (.unmount("/vusb"), .exit(0)),
            ], pauses: pauses
        )
        #expect(pauses.all.withLock { $0 } == [.milliseconds(50), .milliseconds(50)])
    }

    @Test func whatStaysBusyIsGivenUpAfterABound() async throws {
        let pauses = Pauses()
        // Pauses double from 50 ms to 1 s: 50 + 100 + 200 + 400 + 800 + 8 * 1000 + 450 ms are 10 s.
        let tries = [(FakeGuest.Call.rmmod("vusb_hcd"), Self.busy)]
        let error = await #expect(throws: USBError.self) {
            try await unload(
                [Self.nobody, (Self.factsCall, FakeGuest.brief(FakeGuest.bothLoaded))]
                    + Array(repeating: tries, count: 15).flatMap { $0 },
                pauses: pauses
            )
        }
        #expect(error?.code == .busy)
        #expect(error?.message == "unload vusb_hcd: in use")
        #expect(pauses.all.withLock { $0.reduce(.zero, +) } == .seconds(10))
    }

    @Test func aBusyMountNamesItsUsersAndIsAllThatIsLeft() async throws {
        let steps = Steps()
        let isBusy = (
            FakeGuest.Call.unmount("/vusb"), FakeGuest.Answer.exit(32, errors: "umount: /vusb: target is busy.")
        )
        let users = (
            FakeGuest.Call.mountUsers("/vusb"),
            FakeGuest.Answer.lines(["vusb-mount-users-1", "user 812 sh", "user 812 sh", "user 9 tail -f", "end 1"])
        )
        let end = try await unload(
            [
                Self.nobody, (Self.factsCall, FakeGuest.brief(FakeGuest.bothLoaded + ["mount 9p vusb0"])),
                (.rmmod("vusb_hcd"), .done), (.rmmod("vusb_channel"), .done),
                // After 50 + 100 + 200 + 400 ms it's more than a moment.
            ] + Array(repeating: isBusy, count: 5) + [users] + Array(repeating: isBusy, count: 10) + [users],
            steps: steps
        )
        let text = "used by sh (812), tail -f (9)"
        #expect(steps.all.suffix(2) == ["unmounting /vusb", "waiting for /vusb, which is busy: \(text)"])
        guard case .left(let left, let error) = end else { return #expect(Bool(false), "\(end)") }
        #expect(left == LoadedModules(bootID: FakeGuest.bootID, modules: [], mountedAt: "/vusb"))
        #expect(error.code == .busy)
        #expect(error.message == "unmount /vusb: umount: /vusb: target is busy.: \(text)")
    }

    @Test(arguments: [["module vusb_hcd 0 - Live", "path /vusb/hcd"], ["path /vusb/hcd"]])
    func whatAModuleOfSomebodyElseHoldsStaysWithIt(lines: [String]) async throws {
        let steps = Steps()
        let ours = LoadedModules(bootID: FakeGuest.bootID, modules: [], mountedAt: "/vusb")
        let end = try await unload(
            [(Self.factsCall, FakeGuest.brief(lines + ["mount virtiofs vusb0"]))], ours, steps: steps)
        guard case .stays = end else { return #expect(Bool(false), "\(end)") }
        #expect(steps.all == ["vusb_hcd wasn't loaded by us: it stays, and with it the mount at /vusb"])
    }

    @Test func whatAnUnloadLeftIsOursAtTheNextLoad() {
        let left = LoadedModules(bootID: "a", modules: ["vusb_channel"], mountedAt: "/vusb")
        let loaded = LoadedModules(bootID: "a", modules: ["vusb_hcd"])
        #expect(loaded.adopting(left).parts == ["vusb_channel", "vusb_hcd", "the mount at /vusb"])
        #expect(LoadedModules(bootID: "b", modules: []).adopting(left).parts.isEmpty)
        #expect(loaded.adopting(nil) == loaded)
    }

    @Test func aFailureOfAnotherKindIsNotTriedAgain() async throws {
        let error = await #expect(throws: USBError.self) {
            try await unload([
                Self.nobody, (Self.factsCall, FakeGuest.brief(FakeGuest.bothLoaded)),
                (.rmmod("vusb_hcd"), .failure(USBError(.accessDenied, "no"))),
            ])
        }
        #expect(error?.code == .accessDenied)
    }

    // MARK: - Still loaded

    @Test(arguments: [
        (FakeGuest.bothLoaded, FakeGuest.bootID, true), (FakeGuest.bothLoaded, "another", false),
        (["module vusb_channel 0 - Live"], FakeGuest.bootID, false),
        (["module vusb_hcd 0 - Live"], FakeGuest.bootID, false), ([], FakeGuest.bootID, false),
    ])
    func itIsStillLoadedInTheSameBootWithAllOfIt(modules: [String], boot: String, expected: Bool) async throws {
        let guest = FakeGuest([(Self.factsCall, FakeGuest.brief(modules, boot: boot))])
        let loader = ModuleLoader(kernel: guest, store: ModuleStore(directories: []))
        #expect(try await loader.isStillLoaded(Self.loaded) == expected)
    }

    @Test func aModuleThatIsNotOursIsStillLoadedWhileItIsThere() async throws {
        let adopted = LoadedModules(bootID: FakeGuest.bootID, modules: [])
        for (lines, expected) in [(["module vusb_hcd 0 - Live"], true), (["path /vusb/hcd"], true), ([], false)] {
            let guest = FakeGuest([(.facts(at: "/", brief: true), FakeGuest.brief(lines))])
            let loader = ModuleLoader(kernel: guest, store: ModuleStore(directories: []))
            #expect(try await loader.isStillLoaded(adopted) == expected)
        }
    }
}
