// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What a guest says of its kernel (`GuestScript.facts`).
struct GuestFacts: Sendable {
    struct Module: Sendable, Equatable {
        var name: String
        var referenceCount: Int
        /// Modules that use it.
        var users: [String]
        /// As modinfo gives them; empty where the kernel doesn't say.
        var version = ""
        var sourceVersion = ""
    }

    struct Mount: Sendable, Equatable {
        var type: String
        var source: String
    }

    let release: String
    /// `uname -m`.
    let machine: String
    let isRoot: Bool
    /// Changes with each boot.
    let bootID: String
    /// Ours, among those that are loaded.
    let modules: [Module]
    /// The parameter `path` of `vusb_hcd`, where that is loaded.
    let path: String?
    /// What is mounted where /vusb is to be.
    let mount: Mount?

    /// The kernel takes no modules at all.
    let isUnloadable: Bool
    /// Everything that has a directory below /sys/module, with `_` for `-`.
    let present: Set<String>
    let isBuiltIn: Bool
    /// The guest's own file of `vusb_hcd`, below its /lib/modules.
    let ownFile: String?
    let demandsSignature: Bool
    /// `integrity` or `confidentiality`; nil where it is `none`.
    let lockdown: String?
    let isLoadingDisabled: Bool
    let vermagic: Vermagic?
    /// A module of the guest's whose vermagic is the kernel's.
    let sample: String?

    /// - Throws: `io` where the answer lacks what every kernel has.
    init(_ answer: GuestAnswer, guest: String) throws(USBError) {
        guard let release = answer.value("release"), Vermagic.isRelease(release),
            let bootID = answer.value("boot"), bootID.utf8.count <= 64
        else {
            throw USBError(
                .io, "\(guest) doesn't say its kernel's release and boot id", remedy: "mount /proc and /sys there"
            )
        }
        self.release = release
        self.bootID = bootID
        machine = Self.short(answer.value("machine")) ?? ""
        isRoot = answer.value("uid") == "0"
        modules = answer.values("module").compactMap { Self.module($0, answer) }
        path = Self.short(answer.value("path"))
        mount = answer.value("mount").flatMap { Self.mount($0) }
        isUnloadable = answer.value("unloadable") != nil
        let names = (answer.value("present") ?? "").split(separator: " ")
        present = Set(names.map { Self.canonical(String($0)) })
        isBuiltIn = answer.value("builtin") != nil
        ownFile = Self.short(answer.value("own"))
        demandsSignature = ["Y", "1"].contains(answer.value("enforce"))
        lockdown = Self.lockdown(answer.value("lockdown") ?? "")
        isLoadingDisabled = answer.value("disabled") == "1"
        vermagic = answer.value("vermagic").flatMap { Vermagic($0) }
        sample = Self.short(answer.value("sample"))
    }

    func module(_ name: String) -> Module? { modules.first { $0.name == name } }

    /// The kernel takes `-` and `_` in names for the same, and has the second in sysfs.
    static func canonical(_ name: String) -> String { String(name.map { $0 == "-" ? "_" : $0 }) }

    private static func short(_ text: String?) -> String? { text.map { String($0.prefix(300)) } }

    /// `NAME COUNT USERS STATE`; users are `-`, or names each with a comma behind it.
    private static func module(_ text: String, _ answer: GuestAnswer) -> Module? {
        let fields = text.split(separator: " ")
        guard fields.count >= 3, ModuleLoader.modules.contains(String(fields[0])), let count = Int(fields[1]) else {
            return nil
        }
        let name = String(fields[0])
        return Module(
            name: name, referenceCount: count,
            users: fields[2].split(separator: ",").map { String($0) }.filter { ModuleFile.isName($0) },
            version: short(answer.value("version.\(name)")) ?? "",
            sourceVersion: short(answer.value("srcversion.\(name)")) ?? ""
        )
    }

    private static func mount(_ text: String) -> Mount? {
        let fields = text.split(separator: " ", maxSplits: 1)
        guard fields.count == 2 else { return nil }
        return Mount(type: String(fields[0].prefix(64)), source: String(fields[1].prefix(300)))
    }

    /// `none [integrity] confidentiality`: the one in force has brackets.
    private static func lockdown(_ text: String) -> String? {
        ["integrity", "confidentiality"].first { text.contains("[\($0)]") }
    }
}

extension GuestKernel {
    /// - Parameter brief: leaves out what only loading needs.
    func facts(mountPoint: String, brief: Bool) async throws(USBError) -> GuestFacts {
        let answer = try await ask(
            GuestScript.facts, named: "vusb-facts-1", [mountPoint, brief ? "brief" : "whole"], limit: .seconds(30)
        )
        return try GuestFacts(answer, guest: description)
    }
}
