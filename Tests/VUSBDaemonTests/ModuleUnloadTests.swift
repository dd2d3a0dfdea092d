// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBFileSystem
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// The steps of an unload and a detach in mode `module` (States.md, U1 to U7).
@Suite(.timeLimit(.minutes(1))) struct ModuleUnloadTests {
    private static let devices = ["emu-a 0525:a4a0 S1", "emu-b 0525:a4a0 S2", "emu-c 0525:a4a2"]
    private static let ids = ["emu-a", "emu-b", "emu-c"]
    private static let mount = GuestUser(device: "3-1", text: "/dev/sda1 mounted on /mnt")

    @Test func stepsAreTakenInOrder() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        let info = try await bench.unload("vm1", deadline: 5)
        #expect(info.state == .succeeded, "\(info)")
        #expect(
            info.steps.map(\.name) == [
                "asking who uses them", "quiescing", "quiet", "removing", "reset emu-a", "detached emu-a",
                "unloading", "module is out", "unpublished",
            ])
        #expect(bench.tree.journal == ["quiesce 1-1", "resume 1-1", "withdraw 1-1 orderly"])
        #expect(machine.journal == ["insmod", "rmmod"])
        #expect(bench.tree.channels.isEmpty)
        #expect(bench.monitor.boundGuests.isEmpty)
        #expect(bench.store.state.loaded.isEmpty && bench.store.state.modules == nil)
        await bench.close()
    }

    /// U1
    @Test func aMountedDiskRefusesNamesItAndChangesNothing() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        machine.change { $0.users = [[Self.mount]] }
        let info = try await bench.unload("vm1", deadline: 0)
        #expect(info.error?.code == .busy)
        #expect(info.error?.detail == "guest vm1 uses it yet after 0.0 s: /dev/sda1 mounted on /mnt (3-1)")
        #expect(info.error?.remedy?.contains("umount") == true)
        #expect(try await bench.state(of: "vm1") == .loaded)
        #expect(try await bench.state("emu-a") == .attached)
        #expect(bench.tree.journal.isEmpty)
        #expect(machine.journal == ["insmod"])
        #expect(await bench.event("detach-refused")?.detail == "/dev/sda1 mounted on /mnt (3-1)")
        await bench.close()
    }

    /// U1
    @Test func usersThatEndInTimeAreWaitedFor() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        machine.change { $0.users = [[Self.mount], []] }
        let info = try await bench.unload("vm1", deadline: 60)
        #expect(info.state == .succeeded)
        #expect(info.steps.map(\.name).contains("waiting for /dev/sda1 mounted on /mnt (3-1)"))
        await bench.close()
    }

    /// U1
    @Test func usersThatStayDoNotKeepACancellingUnloadFromIt() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        machine.change { $0.users = [[Self.mount]] }
        let info = try await bench.unload("vm1", deadline: 0, .cancel)
        #expect(info.state == .succeeded)
        #expect(info.steps.map(\.name).contains("used yet: /dev/sda1 mounted on /mnt (3-1)"))
        #expect(machine.modules == nil)
        await bench.close()
    }

    /// U1: the ids that the guest's kernel shows at a port say which device a user has.
    @Test func usersOfAnotherDeviceDoNotKeepADetachFromIt() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: Self.ids)
        machine.change { behaviour in
            behaviour.users = [[Self.mount]]
            behaviour.files = Self.port("3-1", "0525", "a4a0", "S2")
        }
        #expect(try await bench.detach("emu-a").state == .succeeded)
        #expect(try await bench.detach("emu-c").state == .succeeded)
        let info = try await bench.detach("emu-b")
        #expect(info.error?.code == .busy)
        #expect(try await bench.state("emu-b") == .attached)
        await bench.close()
    }

    /// U1: what can't be told apart counts.
    @Test(arguments: [
        port("3-1", "0525", "a4a0", nil), port("3-1", "1111", "a4a0", "S2"), [:], port("3-1", "0525", "a4a0", "S9"),
    ]) func aUserWhoseDeviceIsNotClearCounts(files: [String: String]) async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: Self.ids)
        machine.change { behaviour in
            behaviour.users = [[Self.mount]]
            behaviour.files = files
        }
        #expect(try await bench.detach("emu-a").error?.code == .busy)
        await bench.close()
    }

    /// U1: a guest's text never becomes another path.
    @Test func aPortThatIsNoPortCounts() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: Self.ids)
        machine.change { $0.users = [[GuestUser(device: "../../../etc", text: "x")]] }
        #expect(try await bench.detach("emu-a").error?.code == .busy)
        await bench.close()
    }

    /// U1
    @Test func aGuestThatCannotBeAskedRefusesWhileItsChannelIsOpen() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        machine.change { $0.agentError = USBError(.timedOut, "no answer from the agent", remedy: "start it") }
        let info = try await bench.unload("vm1")
        #expect(info.error?.detail == "guest vm1 can't say who uses it: no answer from the agent")
        #expect(info.error?.remedy == "start it, or take it away all the same: vusbctl's --cancel, onDeadline: cancel")
        #expect(try await bench.state(of: "vm1") == .loaded)
        bench.tree.setChannel("vm1", .closed)
        #expect(try await bench.unload("vm1").state == .succeeded)
        #expect(await bench.event("guest-leftover") != nil)
        #expect(bench.store.state.modules?.count == 1)
        await bench.close()
    }

    /// U1, U2, U4, U6: each is bounded, and the host's half is done in the end.
    @Test func aGuestThatAnswersNothingIsUnloadedByCancel() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        machine.change { $0.isSilent = true }
        bench.tree.answer("vm1", .never)
        try bench.read("1-1", of: "vm1")
        let info = try await bench.unload("vm1", deadline: 0, .cancel)
        #expect(info.state == .succeeded, "\(info)")
        #expect(info.steps.map(\.name).contains("the guest hasn't let go of 1-1"))
        #expect(bench.tree.journal == ["quiesce 1-1", "resume 1-1", "withdraw 1-1 now"])
        #expect(info.steps.map(\.name).contains { $0.hasPrefix("left in the guest: vusb_channel, vusb_hcd") })
        #expect(try await bench.state("emu-a") == .available)
        #expect(await bench.handler.wait(for: 1).first?.status == .cancelled)
        await bench.close()
    }

    /// U2
    @Test func aModuleThatDoesNotAnswerTheQuiesceRefuses() async throws {
        let (bench, _) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        bench.tree.answer("vm1", .no)
        let info = try await bench.unload("vm1")
        #expect(info.error?.detail == "the module in guest vm1 doesn't answer on its channel")
        #expect(bench.tree.quiet.isEmpty)
        #expect(bench.tree.guests["vm1"]?.attachments["1-1"]?.device.admission == .admitting)
        #expect(try await bench.state(of: "vm1") == .loaded)
        await bench.close()
    }

    /// U3
    @Test func aParkedReadDoesNotCount() async throws {
        let (bench, _) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        try bench.read("1-1", of: "vm1")
        #expect(try await bench.unload("vm1").state == .succeeded)
        #expect(await bench.handler.wait(for: 1).first?.status == .cancelled)
        await bench.close()
    }

    /// U3
    @Test func aWriteInFlightCounts() async throws {
        let (bench, _) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        try bench.write("1-1", of: "vm1")
        let info = try await bench.unload("vm1")
        #expect(info.error?.detail.contains("1 URB in flight") == true)
        #expect(bench.tree.quiet.isEmpty)
        #expect(bench.handler.completions.isEmpty)
        let operation = try await bench.plane.unload("vm1", ReleaseRequest(deadlineSeconds: 60))
        _ = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 1)
        bench.source.backend(DeviceID("emu-a"))?.held.first?.complete(.success)
        #expect(try await bench.finish(operation).state == .succeeded)
        #expect(bench.handler.completions.map(\.status) == [.success])
        await bench.close()
    }

    /// U3
    @Test func aCancelledUnloadResumes() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        try bench.write("1-1", of: "vm1")
        let operation = try await bench.plane.unload("vm1", ReleaseRequest(deadlineSeconds: 3600))
        _ = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 1)
        _ = try await bench.plane.cancelOperation(operation.id)
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(try await bench.state(of: "vm1") == .loaded)
        #expect(bench.tree.quiet.isEmpty)
        #expect(machine.journal == ["insmod"])
        #expect(bench.handler.completions.isEmpty)
        await bench.close()
    }

    /// U3
    @Test func anUnplugMeanwhileEndsTheWait() async throws {
        let (bench, _) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        bench.source.ignoreCancels()
        try bench.write("1-1", of: "vm1")
        let operation = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: 3600))
        _ = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 1)
        try bench.source.pullOut(DeviceID("emu-a"))
        #expect(try await bench.finish(operation).state == .succeeded)
        await bench.close()
    }

    /// U6
    @Test func aModuleThatIsInUseBringsTheGuestBack() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        machine.change { $0.unloadError = USBError(.busy, "vusb_hcd is in use by x") }
        let info = try await bench.unload("vm1")
        #expect(info.error?.code == .busy)
        #expect(info.error?.detail == "unload of guest vm1: vusb_hcd is in use by x")
        #expect(try await bench.state(of: "vm1") == .loaded)
        #expect(await bench.event("attached", after: bench.event("detached")?.sequence ?? 0)?.device == "emu-a")
        machine.change { $0.unloadError = nil }
        #expect(try await bench.unload("vm1").state == .succeeded)
        #expect(machine.modules == nil)
        await bench.close()
    }

    /// U6: the guest can't stay loaded without its module, so that isn't what is reported.
    @Test func aMountThatStaysIsAllThatIsLeft() async throws {
        let (bench, machine) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        machine.change { $0.unmountError = USBError(.busy, "unmount /vusb: target is busy: used by sh (812)") }
        let info = try await bench.unload("vm1")
        #expect(info.state == .succeeded)
        let text = "left in the guest: the mount at /vusb: unmount /vusb: target is busy: used by sh (812)"
        #expect(info.steps.map(\.name).suffix(2) == [text, "unpublished"])
        #expect(await bench.event("guest-leftover")?.detail == text)
        #expect(try await bench.state(of: "vm1") == .unloaded)
        #expect(bench.store.state.modules?.map(\.loaded.parts) == [["the mount at /vusb"]])
        machine.change { $0.unmountError = nil }
        try await bench.load("vm1")
        #expect(bench.store.state.modules?.first?.loaded.parts == ["vusb_channel", "vusb_hcd", "the mount at /vusb"])
        #expect(try await bench.unload("vm1").state == .succeeded)
        #expect(bench.store.state.modules == nil)
        await bench.close()
    }

    /// H2, H1: nothing is taken, and devices stay with the guest for the next hello.
    @Test func aChannelThatClosesAndComesBackIsTold() async throws {
        let (bench, _) = try await Bench.withLoadedMachine(Self.devices, lists: ["emu-a"])
        bench.tree.setChannel("vm1", .broken)
        #expect(await bench.event("guest-channel") { $0.detail == "broken: C3" } != nil)
        #expect(try await bench.plane.guest("vm1").channel?.state == "broken")
        let doctor = await bench.plane.doctor().filter { $0.check == "guest vm1" }
        #expect(doctor.first?.level == .error)
        bench.tree.setChannel("vm1", .open, oneAtATime: true)
        #expect(await bench.event("guest-channel") { $0.detail?.hasPrefix("slow") == true } != nil)
        let slow = await bench.plane.doctor().first { $0.check == "guest vm1" }
        #expect(slow?.level == .warning)
        #expect(slow?.remedy?.contains("--thread-pool-size=4") == true)
        #expect(try await bench.state("emu-a") == .attached)
        await bench.close()
    }

    @Test func aGuestThatOpensAndClosesWithoutEndFillsNoLog() {
        var allowance = EventAllowance()
        let begin = ContinuousClock.now
        let told = (0..<1000).count { allowance.take(begin + .milliseconds($0)) != nil }
        #expect(told == EventAllowance.burst)
        #expect(allowance.take(begin + .seconds(2)) == 1000 - EventAllowance.burst)
        #expect(allowance.take(begin + .seconds(2)) == 0)
        #expect(allowance.take(begin + .seconds(2)) == nil)
    }

    private static func port(_ path: String, _ vendor: String, _ product: String, _ serial: String?)
        -> [String: String]
    {
        var files = [
            "/sys/bus/usb/devices/\(path)/idVendor": vendor + "\n",
            "/sys/bus/usb/devices/\(path)/idProduct": product + "\n",
        ]
        if let serial { files["/sys/bus/usb/devices/\(path)/serial"] = serial + "\n" }
        return files
    }
}
