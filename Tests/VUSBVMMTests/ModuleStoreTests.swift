// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore

@testable import VUSBVMM

@Suite struct ModuleStoreTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func build(_ place: String, _ release: String, flags: String = "SMP mod_unload ") throws {
        for name in ModuleStore.modules {
            try folder.write("\(place)/\(name).ko", ModuleBytes(name, vermagic: "\(release) \(flags)").bytes)
        }
    }

    private var store: ModuleStore { ModuleStore(directories: [folder.path]) }

    @Test(arguments: [
        ".", "6.1.0-1", "0.1.0/6.1.0-1/x86_64/module", "6.1.0-1/updates/dkms", "6.1.0-1/updates", "6.1.0-1/extra",
    ])
    func aBuildIsFoundInEachPlaceThatBuildsAreIn(place: String) throws {
        try build(place, "6.1.0-1")
        let (builds, faults) = store.builds()
        #expect(faults.isEmpty)
        #expect(builds.map(\.kernelRelease) == ["6.1.0-1"])
        #expect(builds.first?.vermagic == "6.1.0-1 SMP mod_unload")
        #expect(builds.first?.version == "0.1.0")
        let modules = try store.modules(of: #require(builds.first))
        #expect(modules.map(\.name) == ["vusb_channel", "vusb_hcd"])
        #expect(
            modules.map(\.image)
                == ModuleStore.modules.map { ModuleBytes($0, vermagic: "6.1.0-1 SMP mod_unload ").bytes })
    }

    @Test(arguments: ["xz", "zstd", "gzip"]) func aCompressedBuildGivesPlainBytes(program: String) throws {
        try build("6.1.0-1", "6.1.0-1")
        for name in ModuleStore.modules {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/\(program)")
            process.arguments = ["-q", "\(folder.path)/6.1.0-1/\(name).ko"]
            try process.run()
            process.waitUntilExit()
            #expect(process.terminationStatus == 0)
            if program == "zstd" { try FileManager.default.removeItem(atPath: "\(folder.path)/6.1.0-1/\(name).ko") }
        }
        let build = try #require(store.builds().builds.first)
        let modules = try store.modules(of: build)
        #expect(modules[1].image == ModuleBytes("vusb_hcd", vermagic: "6.1.0-1 SMP mod_unload ").bytes)
        #expect(!modules[1].path.hasSuffix(".ko"))
    }

    @Test func aCompressedFileThatIsNoneIsAFault() throws {
        try build("a", "6.1.0-1")
        try FileManager.default.removeItem(atPath: folder.path + "/a/vusb_hcd.ko")
        try folder.write("a/vusb_hcd.ko.xz", "not so")
        let (builds, faults) = store.builds()
        #expect(builds.isEmpty)
        #expect(faults.map(\.code) == [.invalid])
        #expect(faults[0].message.contains("/a/vusb_hcd.ko.xz can't be decompressed"))
    }

    @Test func halfAPairIsAFaultThatNamesTheMissingHalf() throws {
        try folder.write("a/vusb_hcd.ko", ModuleBytes("vusb_hcd").bytes)
        let (builds, faults) = store.builds()
        #expect(builds.isEmpty)
        #expect(faults.map(\.message) == ["\(folder.path)/a has no vusb_channel.ko"])
    }

    @Test func aPairOfTwoBuildsIsAFaultThatNamesBoth() throws {
        try folder.write("a/vusb_hcd.ko", ModuleBytes("vusb_hcd", vermagic: "6.1 SMP ").bytes)
        try folder.write("a/vusb_channel.ko", ModuleBytes("vusb_channel", vermagic: "6.2 SMP ").bytes)
        let faults = store.builds().faults
        #expect(faults.count == 1)
        #expect(faults[0].message.contains("6.1 SMP") && faults[0].message.contains("6.2 SMP"))
    }

    @Test func aFileThatIsAnotherModuleIsAFault() throws {
        try build("a", "6.1")
        try folder.write("a/vusb_hcd.ko", ModuleBytes("evil", vermagic: "6.1 SMP mod_unload").bytes)
        #expect(store.builds().faults.map(\.message) == ["\(folder.path)/a/vusb_hcd.ko is the module evil"])
    }

    @Test func aDirectoryNamedTwiceIsListedOnce() throws {
        try build("6.1", "6.1")
        try folder.link("same", to: folder.path + "/6.1")
        let store = ModuleStore(directories: [folder.path, folder.path + "/", folder.path + "/same"])
        #expect(store.builds().builds.count == 1)
    }

    @Test func directoriesThatAreNotThereHoldNoBuilds() {
        let (builds, faults) = ModuleStore(directories: ["/nowhere/at/all"]).builds()
        #expect(builds.isEmpty && faults.isEmpty)
    }

    @Test func theBuildForAKernelIsPickedByReleaseAndVermagic() throws {
        try build("a", "6.1")
        try build("b", "6.2", flags: "SMP preempt_rt ")
        try build("c", "6.2", flags: "SMP ")
        let vermagic = try #require(Vermagic("6.2 SMP "))
        #expect(try store.build(for: "6.2", vermagic: vermagic).directory == folder.path + "/c")
        #expect(try store.build(for: "6.1", vermagic: nil).directory == folder.path + "/a")
    }

    @Test func aBuildWithOtherFlagsIsRefusedNamingBothVermagics() throws {
        try build("a", "6.2", flags: "SMP preempt_rt ")
        let vermagic = try #require(Vermagic("6.2 SMP modversions"))
        let error = #expect(throws: USBError.self) { try store.build(for: "6.2", vermagic: vermagic) }
        #expect(error?.code == .invalid)
        #expect(
            error?.message
                == "the build in \(folder.path)/a is for vermagic 6.2 SMP preempt_rt, "
                + "the kernel has 6.2 SMP modversions"
        )
        #expect(error?.remedy?.contains("make -C kmod-shim KVER=6.2") == true)
    }

    @Test func aRefusalNamesTheFirstFewOfTheBuildsForOtherKernels() throws {
        try build("a", "6.2", flags: "SMP preempt_rt ")
        for release in ["6.10", "6.1", "6.3", "6.4", "6.5", "6.11"] { try build(release, release, flags: "SMP ") }
        let error = #expect(throws: USBError.self) { try store.build(for: "6.2", vermagic: Vermagic("6.2 SMP")) }
        #expect(error?.code == .invalid)
        #expect(
            error?.message
                == "the build in \(folder.path)/a is for vermagic 6.2 SMP preempt_rt, the kernel has 6.2 SMP; "
                + "other builds are for vermagic 6.1 SMP, 6.3 SMP, 6.4 SMP, 6.5 SMP, 6.10 SMP and 1 more"
        )
    }

    @Test func withoutABuildForTheReleaseThoseThereAreAreNamed() throws {
        try build("a", "6.1")
        try build("b", "6.2")
        let error = #expect(throws: USBError.self) { try store.build(for: "6.3", vermagic: nil) }
        #expect(error?.code == .notFound)
        #expect(
            error?.message == "there is no build of the modules for the kernel 6.3; "
                + "there are builds for vermagic 6.1 SMP mod_unload, 6.2 SMP mod_unload"
        )
        #expect(error?.remedy?.contains("make -C kmod-shim KVER=6.3") == true)
        #expect(error?.remedy?.hasSuffix("\(folder.path)/6.3") == true)
    }

    @Test func withoutAnyBuildThatIsSaid() {
        let error = #expect(throws: USBError.self) { try store.build(for: "6.3", vermagic: Vermagic("6.3 SMP")) }
        #expect(
            error?.message
                == "there is no build of the modules for the kernel 6.3, vermagic 6.3 SMP; there are no builds at all"
        )
    }

    @Test func aBuildThatChangedSinceItWasPickedIsRefused() throws {
        try build("a", "6.1")
        let build = try store.build(for: "6.1", vermagic: nil)
        try self.build("a", "6.2")
        #expect(throws: USBError.self) { try store.modules(of: build) }
    }

    /// Modules that the machine has itself, of whatever kernels are installed.
    @Test(.enabled(if: !installed.isEmpty, "no kernel's modules are installed here"))
    func realModulesSayTheirOwnKernel() throws {
        for path in Self.installed {
            let bytes = try ModuleImage.read(path)
            let file = try ModuleFile(parsing: bytes.span, path: path)
            #expect(path.contains("/\(file.vermagic.release)/"))
            #expect(file.name == "usbcore")
        }
    }

    private static let installed: [String] = {
        let releases = (try? FileManager.default.contentsOfDirectory(atPath: "/lib/modules")) ?? []
        return releases.flatMap { release in
            ModuleImage.endings.map { "/lib/modules/\(release)/kernel/drivers/usb/core/usbcore\($0)" }
        }.filter { FileManager.default.fileExists(atPath: $0) }
    }()
}
