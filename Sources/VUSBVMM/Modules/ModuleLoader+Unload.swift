// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

extension ModuleLoader {
    /// What is still busy is tried again for so long, with pauses that double.
    private static let busyLimit = Duration.seconds(10)
    private static let firstPause = Duration.milliseconds(50)

    /// Whether what was loaded earlier is still there, in the same boot: after a restart of vusbd.
    package func isStillLoaded(_ loaded: LoadedModules) async throws(USBError) -> Bool {
        let facts = try await kernel.facts(mountPoint: loaded.mountedAt ?? "/", brief: true)
        // One that is built in has no line among the modules.
        return facts.bootID == loaded.bootID && (facts.module("vusb_hcd") != nil || facts.path != nil)
            && loaded.modules.allSatisfy { facts.module($0) != nil }
    }

    /// Takes out what `load` brought, and nothing else.
    ///
    /// One that failed may be called again: what is out already is passed over.
    /// - Throws: `busy` with who uses it.
    package func unload(_ loaded: LoadedModules, step: @Sendable (String) -> Void) async throws(USBError) {
        guard !loaded.modules.isEmpty || loaded.mountedAt != nil else {
            step("the module wasn't loaded by us: it stays")
            return
        }
        if loaded.modules.contains("vusb_hcd") {
            let users = try await during("look for users") { () async throws(USBError) in try await self.users() }
            guard users.isEmpty else {
                throw USBError(
                    .busy, "unload vusb_hcd: \(Self.list(users.map(\.text)))",
                    remedy: "unmount or end what uses the guest's devices, then unload again"
                )
            }
        }
        try await takeOut(loaded, step: step)
    }

    /// As `unload`, whoever uses it: for modules that have no devices yet.
    func takeOut(_ loaded: LoadedModules, step: @Sendable (String) -> Void) async throws(USBError) {
        let facts = try await during("ask the guest") { () async throws(USBError) in
            try await kernel.facts(mountPoint: loaded.mountedAt ?? "/", brief: true)
        }
        guard facts.bootID == loaded.bootID else {
            step("the guest has booted anew since: nothing is left there")
            return
        }
        for name in loaded.modules.reversed() where facts.module(name) != nil {
            step("unloading \(name)")
            try await during("unload \(name)") { () async throws(USBError) in
                try await whileBusy { () async throws(USBError) in try await remove(name) }
            }
        }
        guard let path = loaded.mountedAt, facts.mount.map({ Self.isShare($0) }) == true else { return }
        step("unmounting \(path)")
        try await during("unmount \(path)") { () async throws(USBError) in
            try await whileBusy { () async throws(USBError) in try await unmount(path) }
        }
    }

    private static func isShare(_ mount: GuestFacts.Mount) -> Bool {
        GuestShare.Kind.allCases.contains { $0 != .host && $0.rawValue == mount.type }
    }

    private func remove(_ name: String) async throws(USBError) {
        do throws(USBError) {
            try await kernel.rmmod(name)
        } catch  where error.code == .notFound {
            // Somebody else was faster.
            return
        }
    }

    private func unmount(_ path: String) async throws(USBError) {
        let result = try await kernel.shell(GuestScript.unmount, [path], limit: .seconds(20))
        guard !result.succeeded else { return }
        let text = PlainText.lastLines(result.errors)
        guard !text.contains("not mounted") else { return }
        throw USBError(
            text.contains("busy") ? .busy : .io, text.isEmpty ? "umount failed with \(result.end)" : text,
            remedy: "end what has files open below it: fuser -vm \(path) in the guest"
        )
    }

    /// A module is busy for a moment after its last user has gone, a mount after its last file was closed.
    private func whileBusy(_ body: () async throws(USBError) -> Void) async throws(USBError) {
        var wait = Self.firstPause
        var left = Self.busyLimit
        while true {
            do throws(USBError) {
                return try await body()
            } catch {
                guard error.code == .busy, left > .zero, !Task.isCancelled else { throw error }
            }
            await pause(min(wait, left))
            left -= min(wait, left)
            wait = min(wait * 2, .seconds(1))
        }
    }

    /// The first few, and how many more there are.
    private static func list(_ texts: [String], limit: Int = 5) -> String {
        let rest = texts.count - limit
        return texts.prefix(limit).joined(separator: ", ") + (rest > 0 ? " and \(rest) more" : "")
    }
}
