// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
package import VUSBCore

/// How a guest sees its directory of /vusb.
package struct GuestShare: Sendable, Hashable, Codable {
    package enum Kind: String, Sendable, Codable, CaseIterable {
        /// The guest shares the host's kernel: the directory is used as it is.
        case host
        case virtiofs
        /// 9p over virtio.
        case ninep = "9p"
    }

    package var kind: Kind
    /// The mount tag; nil for `host`.
    package var tag: String?
    /// Where it is, or is to be mounted, in the guest.
    package var path: String

    package init(kind: Kind, tag: String? = nil, path: String = "/vusb") {
        self.kind = kind
        self.tag = tag
        self.path = path
    }
}

/// What was loaded into a guest, and so is to be unloaded: nothing else ever is.
package struct LoadedModules: Sendable, Hashable, Codable {
    /// The guest's boot: after another one nothing of this holds.
    package var bootID: String
    /// Those that were loaded here, in that order.
    package var modules: [String]
    /// Where /vusb was mounted here; nil where it was there already.
    package var mountedAt: String?
    /// Where `vusb-attach` was copied to; nil where it wasn't.
    package var helperDirectory: String?

    package init(
        bootID: String, modules: [String], mountedAt: String? = nil, helperDirectory: String? = nil
    ) {
        self.bootID = bootID
        self.modules = modules
        self.mountedAt = mountedAt
        self.helperDirectory = helperDirectory
    }

    package var isEmpty: Bool { parts.isEmpty }

    /// For people.
    package var parts: [String] {
        modules + (mountedAt.map { ["the mount at \($0)"] } ?? []) + (helperDirectory.map { [$0] } ?? [])
    }

    var helperPath: String? { helperDirectory.map { "\($0)/\(AttachHelper.name)" } }

    /// With what an earlier load brought and an unload left: it was found now, and is ours yet.
    package func adopting(_ before: LoadedModules?) -> LoadedModules {
        guard let before, before.bootID == bootID else { return self }
        return LoadedModules(
            bootID: bootID, modules: before.modules.filter { !modules.contains($0) } + modules,
            mountedAt: mountedAt ?? before.mountedAt, helperDirectory: helperDirectory ?? before.helperDirectory
        )
    }
}

/// What came of an unload.
package enum UnloadEnd: Sendable {
    /// Nothing of ours is there any more.
    case out
    /// The module isn't ours. What it needs stays with it.
    case stays
    case left(LoadedModules, because: USBError)
}

/// Who uses a guest's device inside the guest, such as `/dev/sda1 mounted on /mnt`.
package struct GuestUser: Sendable, Hashable {
    /// The port path of the device on the module's root hub in the guest, such as `3-1`.
    package var device: String
    package var text: String

    package init(device: String, text: String) {
        self.device = device
        self.text = text
    }
}

/// Loads the USB module into a guest's kernel, or what its own client of USB/IP needs, and takes it out again, whatever way
/// into the guest there is. Modules.md and Attach.md say what each step does and what its failure means.
///
/// Concurrency model: immutable. For one guest one call at a time, which its owner sees to.
package struct ModuleLoader: Sendable {
    let kernel: any GuestKernel
    let store: ModuleStore
    /// All that it brings.
    static let modules = ModuleStore.modules + clientModules

    /// Between two tries of something that was busy.
    let pause: @Sendable (Duration) async -> Void

    package init(kernel: any GuestKernel, store: ModuleStore) {
        self.init(kernel: kernel, store: store) {
            // A cancelled sleep is noticed by the next call into the guest.
            try? await Task.sleep(for: $0)
        }
    }

    init(kernel: any GuestKernel, store: ModuleStore, pause: @escaping @Sendable (Duration) async -> Void) {
        self.kernel = kernel
        self.store = store
        self.pause = pause
    }

    /// Finds the build for the guest's kernel, mounts /vusb where it isn't, loads. On a failure what was done is
    /// undone.
    ///
    /// A `vusb_hcd` that is there already with our path is used as it is. It isn't ours, so it stays when the guest is
    /// unloaded.
    /// - Parameters:
    ///   - channelPath: the file `hcd` as the guest sees it; it's there before this is called.
    ///   - step: told what is being done, for people.
    /// - Throws: which step failed, what the guest said, and the remedy.
    package func load(
        _ share: GuestShare, channelPath: String, step: @Sendable (String) -> Void
    ) async throws(USBError) -> LoadedModules {
        try Self.check(share, channelPath: channelPath)
        let facts = try await during("ask the guest") { () async throws(USBError) in
            try await kernel.facts(mountPoint: share.path, brief: false)
        }
        step("its kernel is \(facts.release)")
        let isThere = try facts.hasOurs(channelPath: channelPath)
        if isThere { step("vusb_hcd is there already and has our path: it's used, and stays when unloading") }
        let modules = isThere ? [] : try await modules(for: facts, step: step)

        var done = LoadedModules(bootID: facts.bootID, modules: [])
        do throws(USBError) {
            if try await mount(share, facts, step: step) { done.mountedAt = share.path }
            try await prepare(modules, facts, channelPath: channelPath, step: step)
            for module in modules where facts.module(module.name) == nil {
                try await insert(module, channelPath: channelPath, step: step)
                done.modules.append(module.name)
            }
            return done
        } catch {
            throw await undo(done, because: error)
        }
    }

    // MARK: - Steps

    /// The modules that fit the guest's kernel; all that speaks against loading them is said before anything is sent.
    private func modules(
        for facts: GuestFacts, step: @Sendable (String) -> Void
    ) async throws(USBError) -> [LoadableModule] {
        try facts.checkTakesModules(kernel.description)
        let vermagic = await vermagic(facts)
        if vermagic == nil { step("its vermagic isn't known: only its release is compared") }
        let store = store
        let (build, modules) = try await during("find a build") { () async throws(USBError) in
            try await BlockingWork.run { () throws(USBError) in
                let build = try store.build(for: facts.release, vermagic: vermagic)
                return (build, try store.modules(of: build))
            }
        }
        step("build \(build.version) in \(build.directory)")
        for module in modules { try facts.check(module) }
        if let rule = facts.signatureRule { step("\(rule): the modules have signatures, the kernel decides") }
        return modules
    }

    /// The kernel's own, as far as it can be had: no file of /proc says it, but every module does.
    private func vermagic(_ facts: GuestFacts) async -> Vermagic? {
        var found = facts.vermagic
        if found == nil, let sample = facts.sample, sample.hasSuffix(".ko") {
            // Only a better answer than none: the release is compared in any case.
            let image = try? await kernel.readFile(sample, limit: 4 << 20)
            found = image.flatMap { try? ModuleFile(parsing: $0.span, path: sample) }?.vermagic
        }
        return found?.release == facts.release ? found : nil
    }

    /// - Returns: whether it was mounted now.
    private func mount(
        _ share: GuestShare, _ facts: GuestFacts, step: @Sendable (String) -> Void
    ) async throws(USBError) -> Bool {
        guard let tag = share.tag, share.kind != .host else { return false }
        if let mount = facts.mount {
            guard mount.type == share.kind.rawValue, mount.source == tag else {
                throw USBError(
                    .busy, "mount \(share.path): \(mount.source) of type \(mount.type) is mounted there",
                    remedy: "unmount it in the guest"
                )
            }
            step("\(share.path) is mounted")
            return false
        }
        step("mounting \(share.path)")
        try await during("mount \(share.path)") { () async throws(USBError) in
            let result = try await kernel.shell(
                GuestScript.mount, [share.kind.rawValue, tag, share.path], limit: .seconds(30)
            )
            guard !result.succeeded else { return }
            throw MountFailure(share: share, tag: tag, result: result).error
        }
        return true
    }

    /// What the modules need: other modules, and the channel's file.
    private func prepare(
        _ modules: [LoadableModule], _ facts: GuestFacts, channelPath: String, step: @Sendable (String) -> Void
    ) async throws(USBError) {
        let ours = Set(ModuleStore.modules)
        var missing: [String] = []
        for name in modules.flatMap(\.file.depends) where !ours.contains(GuestFacts.canonical(name)) {
            if !facts.present.contains(GuestFacts.canonical(name)), !missing.contains(name) { missing.append(name) }
        }
        if !missing.isEmpty { step("loading \(missing.joined(separator: ", "))") }
        let result = try await during("look for the channel") { () async throws(USBError) in
            try await kernel.shell(GuestScript.prepare, [channelPath] + missing, limit: .seconds(60))
        }
        switch result.end {
        case .exited(0): return
        case .exited(3):
            let said = PlainText.lastLines(result.errors)
            let name = PlainText.lastLines(result.output, count: 1)
            throw USBError(
                .notFound, "load what vusb_hcd needs: \(name): \(said)",
                remedy: "install the kernel's modules in the guest (linux-modules, kernel-modules-extra), run depmod"
            )
        case .exited(4):
            throw USBError(
                .notFound, "look for the channel: \(channelPath) isn't there in the guest",
                remedy: "its machine must export what `vusbctl guest add` printed, exports/NAME beside vusbd's socket; "
                    + "start an exporter anew that is older than vusbd or than the guest's declaration"
            )
        case .exited(5):
            throw USBError(
                .invalid, "look for the channel: the guest sees the whole of /vusb, not just its own directory",
                remedy: "have its machine export exports/NAME beside vusbd's socket, and nothing above it"
            )
        default:
            throw USBError(.io, "look for the channel: the shell failed: \(PlainText.lastLines(result.errors))")
        }
    }

    private func insert(
        _ module: LoadableModule, channelPath: String, step: @Sendable (String) -> Void
    ) async throws(USBError) {
        step("loading \(module.name), \(module.image.count >> 10) KiB")
        let meter = CopyMeter(total: module.image.count)
        do throws(USBError) {
            try await kernel.insmod(
                module.name, image: module.image,
                parameters: module.name == ModuleStore.modules.last ? "path=\(channelPath)" : ""
            ) { count in
                if let percent = meter.told(count) { step("loading \(module.name): \(percent) % copied") }
            }
        } catch {
            throw await explained(error, module)
        }
    }

    /// With what the guest's kernel logged, unless that's part of it already, and a remedy.
    private func explained(_ error: USBError, _ module: LoadableModule) async -> USBError {
        var message = "load \(module.name): \(error.message)"
        // No log is no other failure.
        if error.code != .cancelled, !message.contains("the kernel says"),
            let result = try? await kernel.shell(GuestScript.kernelLog, [], limit: .seconds(10))
        {
            let said = PlainText.lastLines(result.output)
            if !said.isEmpty { message += "; its kernel says: \(said)" }
        }
        return USBError(error.code, message, remedy: error.remedy ?? Self.remedy(error.code, module))
    }

    private static func remedy(_ code: USBError.Code, _ module: LoadableModule) -> String? {
        switch code {
        case .invalid, .notFound:
            "build it against the headers of exactly the guest's kernel: make -C kmod-shim "
                + "KVER=\(module.file.vermagic.release)"
        case .accessDenied:
            "sign the modules with a key that is enrolled in the guest (kmodsign, mokutil), or boot it without "
                + "module.sig_enforce and lockdown"
        case .busy: "see in the guest who has loaded \(module.name) meanwhile: lsmod, dmesg"
        default: nil
        }
    }

    /// Takes back what was done, also for a cancelled load.
    /// - Returns: the error, with what couldn't be taken back.
    func undo(_ done: LoadedModules, because error: USBError) async -> USBError {
        guard !done.isEmpty else { return error }
        // In a task of its own, which isn't cancelled.
        let failure = await Task { () -> USBError? in
            do throws(USBError) {
                var left = done
                // Whatever it comes to, but for an error.
                _ = try await takeOut(&left, spares: false) { _ in }
                return nil
            } catch {
                return error
            }
        }.value
        guard let failure else { return error }
        return USBError(
            error.code, "\(error.message); undoing it failed as well: \(failure.message)", remedy: error.remedy
        )
    }

    /// Puts the step's name before the error's message.
    func during<T>(
        _ name: String, _ body: () async throws(USBError) -> T
    ) async throws(USBError) -> T {
        do throws(USBError) {
            return try await body()
        } catch {
            throw USBError(error.code, "\(name): \(error.message)", remedy: error.remedy)
        }
    }
}

/// Tells of a copy's quarters, once each: a module of some MB goes through an agent in hundreds of pieces.
private final class CopyMeter: Sendable {
    private let total: Int
    private let quarters = Mutex(0)
    /// Shorter ones are there at once.
    private static let worthTelling = 128 << 10

    init(total: Int) { self.total = total }

    /// - Returns: percents to tell of, if so.
    func told(_ count: Int) -> Int? {
        guard total >= Self.worthTelling, count < total else { return nil }
        return quarters.withLock { last in
            let quarter = count * 4 / total
            guard quarter > last else { return nil }
            last = quarter
            return quarter * 25
        }
    }
}
