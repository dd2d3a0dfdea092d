// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBVMM

/// The builds of the module, and what `doctor` says of guests that have it.
extension ControlPlane {
    func modules() async -> [ModuleInfo] {
        let store = tools.store
        let found = await Self.offActor { store.builds() }
        let builds = found.builds.map { build in
            ModuleInfo(
                kernelRelease: build.kernelRelease,
                vermagic: build.vermagic,
                version: build.version,
                directory: build.directory
            )
        }
        let faults = found.faults.map { error in
            ModuleInfo(
                kernelRelease: "",
                vermagic: "",
                version: "",
                directory: "",
                fault: error.message + (error.remedy.map { "; \($0)" } ?? "")
            )
        }
        return builds + faults
    }

    /// Directories are read and files parsed: not on the actor.
    private static func offActor<Value: Sendable>(_ work: @escaping @Sendable () -> Value) async -> Value {
        await Task.detached { work() }.value
    }

    // MARK: - Doctor

    /// In the order of the guests' names. All are asked at once: silent ones cost the time of one.
    func guestFindings() async -> [Finding] {
        let guests = guestRegistry.sorted
        return await withTaskGroup(of: (Int, [Finding]).self) { group in
            for (index, guest) in guests.enumerated() {
                group.addTask { (index, await self.findings(of: guest)) }
            }
            var found = guests.map { _ in [Finding]() }
            for await (index, findings) in group { found[index] = findings }
            return found.flatMap { $0 }
        }
    }

    private func findings(of guest: GuestEntry) async -> [Finding] {
        let name = guest.definition.name
        switch guest.state {
        case .loaded where guest.loadedMode == .module:
            return [channelFinding(name)] + (await kernelFindings(name))
        case .failed(let reason):
            return [finding(name, .warning, "failed: " + reason, guest.failureRemedy ?? "load it to see why")]
        case .waiting: return [await machineFinding(name)]
        case .unloaded, .loading, .loaded, .draining: return []
        }
    }

    /// A machine that nobody has started is no fault.
    private func machineFinding(_ name: String) async -> Finding {
        let fault = await fault(of: name)
        guard let fault, ![.notFound, .gone].contains(fault.code) else {
            return finding(name, .ok, "waits for its machine, which is off")
        }
        return finding(name, .warning, "waits for its machine: \(fault.message)", fault.remedy)
    }

    private func finding(
        _ guest: String, _ level: Finding.Level, _ summary: String, _ remedy: String? = nil
    ) -> Finding {
        Finding(check: "guest \(guest)", level: level, summary: summary, remedy: remedy)
    }

    private func channelFinding(_ name: String) -> Finding {
        let status = tree.channelStatus(of: name)
        let own = exportedDirectory(of: name)
        guard status?.state == .open else {
            return finding(
                name, .error,
                "it's loaded, but the channel to its module is \(status?.state.rawValue ?? "not there")",
                "see in the guest whether vusb_hcd is loaded and can open its file hcd, and that its exporter (of "
                    + "\(own)) runs; or unload and load it"
            )
        }
        guard status?.isOneAtATime == true else {
            return finding(name, .ok, "the channel to its module is open: \(quoted(status?.peer ?? ""))")
        }
        return finding(
            name, .warning,
            "its exporter serves one request at a time: its devices work, but slowly",
            "start virtiofsd for \(own) with --thread-pool-size=4 or more"
        )
    }

    /// Whether the guest can be asked, and whether there is a build for the kernel that it has now.
    private func kernelFindings(_ name: String) async -> [Finding] {
        if let failure = await agentFailure(of: name) {
            return [
                finding(
                    name, .warning,
                    "it can't be asked: \(failure.message); without that it can't be unloaded in an orderly way",
                    failure.remedy ?? "see that its guest agent runs and that its sockets are as declared"
                )
            ]
        }
        guard let release = await kernelRelease(of: name) else { return [] }
        let store = tools.store
        let builds = await Self.offActor { store.builds() }.builds
        guard !builds.contains(where: { $0.kernelRelease == release }) else { return [] }
        return [
            finding(
                name, .warning,
                "there is no build of the module for its kernel \(quoted(release)): once unloaded it can't be "
                    + "loaded again",
                "build one: make -C kmod-shim, with KDIR for that kernel; `vusbctl modules` lists what there is"
            )
        ]
    }

    private func kernelRelease(of name: String) async -> String? {
        guard case .success(let way) = await way(into: name) else { return nil }
        let answer = await ask(name, for: tools.times.question) { () async throws(USBError) in
            try await way.kernel.readFile("/proc/sys/kernel/osrelease", limit: 128)
        }
        guard case .success(let bytes) = answer else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }
}
