// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import VUSBCore

/// A build of the modules for one kernel.
package struct ModuleBuild: Sendable, Hashable {
    /// As `uname -r` prints it in the guest.
    package var kernelRelease: String
    /// Whole, such as `6.1.0-56-amd64 SMP preempt mod_unload modversions`.
    package var vermagic: String
    /// The version that modinfo gives.
    package var version: String
    /// The directory that the files are in.
    package var directory: String

    package init(kernelRelease: String, vermagic: String, version: String, directory: String) {
        self.kernelRelease = kernelRelease
        self.vermagic = vermagic
        self.version = version
        self.directory = directory
    }
}

/// The builds of the modules that this host has: directories of builds, DKMS output, the host's own /lib/modules.
///
/// A build is a directory with both modules, each as `.ko`, `.ko.xz`, `.ko.zst` or `.ko.gz`. What a directory's name
/// says doesn't matter, what is in the files does.
package struct ModuleStore: Sendable {
    /// In the order in which they are loaded.
    package static let modules = ["vusb_channel", "vusb_hcd"]

    /// Where packages, DKMS and the host's own modules are.
    package static let defaultDirectories = ["/usr/lib/vusb/modules", "/var/lib/dkms/vusb", "/lib/modules"]

    package let directories: [String]

    package init(directories: [String] = Self.defaultDirectories) { self.directories = directories }

    /// Entries of a directory that are looked at.
    private static let maximumEntries = 1000

    /// All builds, and what can't be used, with why: for `vusbctl modules`. Blocks while files are read.
    package func builds() -> (builds: [ModuleBuild], faults: [USBError]) {
        var seen: Set<String> = []
        var builds: [ModuleBuild] = []
        var faults: [USBError] = []
        for directory in directories.flatMap({ Self.places(in: $0) }) {
            let resolved = URL(fileURLWithPath: directory).resolvingSymlinksInPath().path
            guard seen.insert(resolved).inserted else { continue }
            do {
                if let pair = try pair(in: directory) { builds.append(pair.build) }
            } catch {
                faults.append(error)
            }
        }
        return (builds, faults)
    }

    /// The first build for a kernel, in the order of the directories.
    /// - Parameter vermagic: the kernel's own, where it's known; else its release decides alone.
    /// - Throws: `notFound`, or `invalid` where there are builds for its release with other flags; with the kernel's
    ///   vermagic and those of the builds that there are, for other releases as well.
    package func build(for release: String, vermagic: Vermagic?) throws(USBError) -> ModuleBuild {
        let (builds, faults) = builds()
        let fitting = builds.filter { $0.kernelRelease == release }
        guard !fitting.isEmpty else {
            throw USBError(
                .notFound,
                "there is no build of the modules for the kernel \(release)"
                    + (vermagic.map { ", vermagic \($0)" } ?? "")
                    + (builds.isEmpty ? "; there are no builds at all" : "; there are builds for \(Self.list(builds))")
                    + (faults.first.map { "; one can't be used: \($0.message)" } ?? ""),
                remedy: Self.remedy(release, in: directories)
            )
        }
        guard let vermagic else { return fitting[0] }
        guard let build = fitting.first(where: { Vermagic($0.vermagic) == vermagic }) else {
            let first = fitting[0]
            let others = builds.filter { $0.vermagic != first.vermagic }
            throw USBError(
                .invalid,
                "the build in \(first.directory) is for vermagic \(first.vermagic), the kernel has \(vermagic)"
                    + (others.isEmpty ? "" : "; other builds are for \(Self.list(others))"),
                remedy: Self.remedy(release, in: directories)
            )
        }
        return build
    }

    /// The two modules of a build, in the order in which they are loaded.
    /// - Throws: `notFound`, `invalid`, also where the files aren't any more what `build` was made of.
    package func modules(of build: ModuleBuild) throws(USBError) -> [LoadableModule] {
        guard let pair = try pair(in: build.directory), pair.build == build else {
            throw USBError(.invalid, "the build in \(build.directory) has changed", remedy: "try again")
        }
        return pair.modules
    }

    /// What builds are for, or the first few of them.
    private static func list(_ builds: [ModuleBuild], limit: Int = 5) -> String {
        let all = Set(builds.map(\.vermagic)).sorted { $0.compare($1, options: .numeric) == .orderedAscending }
        let rest = all.count > limit ? " and \(all.count - limit) more" : ""
        return "vermagic \(all.prefix(limit).joined(separator: ", "))\(rest)"
    }

    private static func remedy(_ release: String, in directories: [String]) -> String {
        let place = directories.first ?? defaultDirectories[0]
        return "build them with that kernel's headers: make -C kmod-shim KVER=\(release), and put both .ko files into "
            + "\(place)/\(release)"
    }

    private func pair(in directory: String) throws(USBError) -> (build: ModuleBuild, modules: [LoadableModule])? {
        let paths = Self.modules.map { name in
            ModuleImage.endings.map { "\(directory)/\(name)\($0)" }.first { FileManager.default.fileExists(atPath: $0) }
        }
        guard paths.contains(where: { $0 != nil }) else { return nil }
        var modules: [LoadableModule] = []
        for (name, path) in zip(Self.modules, paths) {
            guard let path else {
                throw USBError(
                    .invalid, "\(directory) has no \(name).ko", remedy: "build both modules: make -C kmod-shim"
                )
            }
            modules.append(try LoadableModule(name: name, path: path))
        }
        let file = modules[1].file
        for other in modules where other.file.vermagic != file.vermagic {
            throw USBError(
                .invalid,
                "\(directory) has modules of two builds: \(other.name) for vermagic \(other.file.vermagic), "
                    + "\(file.name) for \(file.vermagic)",
                remedy: "build both modules anew: make -C kmod-shim KVER=RELEASE"
            )
        }
        let build = ModuleBuild(
            kernelRelease: file.vermagic.release, vermagic: file.vermagic.description, version: file.version,
            directory: directory
        )
        return (build, modules)
    }

    /// Directories that may be builds: DIR itself, DIR/RELEASE, /lib/modules/RELEASE/{updates/dkms,updates,extra} and
    /// what dkms(8) leaves, DIR/VERSION/RELEASE/ARCHITECTURE/module.
    private static func places(in root: String) -> [String] {
        var result = [root]
        for first in directories(in: root) {
            result.append(first)
            result += ["updates/dkms", "updates", "extra"].map { "\(first)/\($0)" }
            // Elsewhere these two steps would find everything under /lib/modules.
            guard !FileManager.default.fileExists(atPath: "\(first)/modules.dep") else { continue }
            result += directories(in: first).flatMap { directories(in: $0) }.map { "\($0)/module" }
        }
        return result
    }

    /// Newest version first, as far as names tell: of two builds that fit the first is taken.
    private static func directories(in path: String) -> [String] {
        // A directory that isn't there holds no builds, nor does one that is a file.
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return names.sorted { $0.compare($1, options: .numeric) == .orderedDescending }.prefix(maximumEntries)
            .map { "\(path)/\($0)" }
    }
}

/// A module that is ready to be loaded.
package struct LoadableModule: Sendable {
    package let name: String
    package let path: String
    /// Not compressed.
    package let image: [UInt8]
    package let file: ModuleFile

    /// - Throws: `invalid` where the file isn't that module.
    init(name: String, path: String) throws(USBError) {
        let image = try ModuleImage.read(path)
        let file = try ModuleFile(parsing: image.span, path: path)
        guard file.name == name else {
            throw USBError(.invalid, "\(path) is the module \(file.name)", remedy: "build the modules again")
        }
        self.name = name
        self.path = path
        self.image = image
        self.file = file
    }
}
