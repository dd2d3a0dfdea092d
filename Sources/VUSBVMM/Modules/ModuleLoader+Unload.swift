// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

extension ModuleLoader {
    /// What is still busy is tried again for so long, with pauses that double.
    private static let busyLimit = Duration.seconds(10)
    private static let firstPause = Duration.milliseconds(50)
    private static let moment = Duration.milliseconds(500)

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
    /// - Throws: what kept it from taking out anything: `busy` with who uses it. Where it was cancelled, not what is
    ///   left.
    package func unload(
        _ loaded: LoadedModules, step: @Sendable (String) -> Void
    ) async throws(USBError) -> UnloadEnd {
        guard !loaded.isEmpty else {
            step("the module wasn't loaded by us: it stays")
            return .stays
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
        var left = loaded
        do throws(USBError) {
            return try await takeOut(&left, spares: true, step: step)
        } catch {
            let isLess = left.modules != loaded.modules || left.helperDirectory != loaded.helperDirectory
            guard isLess, error.code != .cancelled else { throw error }
            return .left(left, because: error)
        }
    }

    /// As `unload`, whoever uses it: for modules that have no devices yet.
    /// - Parameters:
    ///   - left: what is taken out is taken out of it.
    ///   - spares: what a module that isn't ours holds is left to it.
    func takeOut(
        _ left: inout LoadedModules, spares: Bool, step: @Sendable (String) -> Void
    ) async throws(USBError) -> UnloadEnd {
        let mountPoint = left.mountedAt ?? "/"
        let facts = try await during("ask the guest") { () async throws(USBError) in
            try await kernel.facts(mountPoint: mountPoint, brief: true)
        }
        guard facts.bootID == left.bootID else {
            step("the guest has booted anew since: nothing is left there")
            return .out
        }
        left.modules.removeAll { facts.module($0) == nil }
        if facts.mount.map({ Self.isShare($0) }) != true { left.mountedAt = nil }
        try await removeHelper(&left)
        let isOfModule = left.mountedAt != nil || left.modules.contains("vusb_channel")
        if spares, isOfModule, !left.modules.contains("vusb_hcd"), facts.holds(mountPoint) {
            let rest = left.parts.joined(separator: ", ")
            step("vusb_hcd wasn't loaded by us: it stays" + (rest.isEmpty ? "" : ", and with it \(rest)"))
            return .stays
        }
        for name in left.modules.reversed() {
            if name == "vhci_hcd" { try await awaitPorts(step: step) }
            step("unloading \(name)")
            try await during("unload \(name)") { () async throws(USBError) in
                try await whileBusy {
                    step("waiting for \(name), which is in use")
                } body: { () async throws(USBError) in
                    try await remove(name)
                }
            }
            left.modules.removeAll { $0 == name }
        }
        guard let path = left.mountedAt else { return .out }
        step("unmounting \(path)")
        try await during("unmount \(path)") { () async throws(USBError) in try await unmount(path, step: step) }
        left.mountedAt = nil
        return .out
    }

    private func removeHelper(_ left: inout LoadedModules) async throws(USBError) {
        guard let directory = left.helperDirectory else { return }
        let result = try await kernel.shell(GuestScript.removeDirectory, [directory], limit: .seconds(20))
        guard result.succeeded else {
            throw USBError(.io, "remove \(directory): \(PlainText.lastLines(result.errors))")
        }
        left.helperDirectory = nil
    }

    /// Our devices leave their ports when their sessions have ended. Others' are nobody's to take away.
    private func awaitPorts(step: @Sendable (String) -> Void) async throws(USBError) {
        try await during("unload vhci_hcd") { () async throws(USBError) in
            try await whileBusy {
                step("waiting for the ports of vhci_hcd")
            } body: { () async throws(USBError) in
                let answer = try await kernel.ask(
                    GuestScript.vhciPorts, named: "vusb-vhci-ports-1", [], limit: .seconds(20))
                let ports = answer.values("port")
                guard !ports.isEmpty else { return }
                throw USBError(
                    .busy, "its ports \(Self.list(ports)) have devices that aren't of this vusbd",
                    remedy: "end them in the guest (usbip detach -p), then rmmod vhci_hcd there")
            }
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

    private func unmount(_ path: String, step: @Sendable (String) -> Void) async throws(USBError) {
        do throws(USBError) {
            try await whileBusy {
                step("waiting for \(path), which is busy" + (await usersText(ofMount: path)))
            } body: { () async throws(USBError) in
                try await tryUnmount(path)
            }
        } catch  where error.code == .busy {
            throw USBError(.busy, error.message + (await usersText(ofMount: path)), remedy: error.remedy)
        }
    }

    private func tryUnmount(_ path: String) async throws(USBError) {
        let result = try await kernel.shell(GuestScript.unmount, [path], limit: .seconds(20))
        guard !result.succeeded else { return }
        let text = PlainText.lastLines(result.errors)
        guard !text.contains("not mounted") else { return }
        throw USBError(
            text.contains("busy") ? .busy : .io, text.isEmpty ? "umount failed with \(result.end)" : text,
            remedy: "end what has files open below it: fuser -vm \(path) in the guest"
        )
    }

    /// Empty where they aren't found: another name space may have them.
    private func usersText(ofMount path: String) async -> String {
        // It only explains what is known already.
        let answer = try? await kernel.ask(
            GuestScript.mountUsers, named: "vusb-mount-users-1", [path], limit: .seconds(30))
        let users = Self.mountUsers(answer)
        return users.isEmpty ? "" : ": used by " + Self.list(users)
    }

    /// Each `COMMAND (PID)`, once.
    static func mountUsers(_ answer: GuestAnswer?) -> [String] {
        var users: [String] = []
        for line in answer?.lines ?? [] where line.keyword == "user" {
            let words = line.value.split(separator: " ", maxSplits: 1)
            guard let number = words.first.flatMap({ Int($0) }) else { continue }
            let user = PlainText.line("\(words.count > 1 ? words[1] : "?") (\(number))", limit: 100)
            if !users.contains(user) { users.append(user) }
        }
        return users
    }

    /// A module is busy for a moment after its last user has gone, a mount after its last file was closed.
    /// - Parameter tell: called once, where it's more than a moment.
    private func whileBusy(
        tell: () async -> Void, body: () async throws(USBError) -> Void
    ) async throws(USBError) {
        var wait = Self.firstPause
        var left = Self.busyLimit
        var isTold = false
        while true {
            do throws(USBError) {
                return try await body()
            } catch {
                guard error.code == .busy, left > .zero, !Task.isCancelled else { throw error }
            }
            if !isTold, Self.busyLimit - left >= Self.moment {
                isTold = true
                await tell()
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

extension GuestFacts {
    /// Whether `vusb_hcd` is there, loaded or built in, and has its channel below that directory.
    fileprivate func holds(_ mountPoint: String) -> Bool {
        guard let path else { return module("vusb_hcd") != nil }
        return mountPoint == "/" || path.hasPrefix(mountPoint + "/")
    }
}
