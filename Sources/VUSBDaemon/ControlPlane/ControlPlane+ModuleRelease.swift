// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBVMM

/// Devices are taken from a guest whose own kernel drives them: its users, quiesce, its drivers, the module.
/// States.md has the steps and who undoes what.
extension ControlPlane {
    /// Asks the guest to let go of devices that are marked as being detached. Either it has in the end, as far as it
    /// ever will, or all is as it was and it throws `busy` or `cancelled`.
    func letGo(
        _ attachments: [Attachment], by name: String, _ release: Release, until deadline: ContinuousClock.Instant,
        operation: Int
    ) async throws(Problem) {
        guard !attachments.isEmpty else { return }
        let answers: Bool
        do {
            answers = try await quiesce(attachments, of: name, release, until: deadline, operation: operation)
        } catch {
            restore(attachments)
            throw error
        }
        operationLog.setCancellable(operation, false)
        operationLog.step(operation, "removing")
        await withdraw(attachments, from: name, orderly: answers, operation: operation)
    }

    // MARK: - Who uses them

    /// Mounted file systems, open nodes: what the guest's own kernel would lose.
    func awaitUsers(
        of attachments: [Attachment], in name: String, _ release: Release, until deadline: ContinuousClock.Instant,
        operation: Int
    ) async throws(Problem) {
        guard !attachments.isEmpty else { return }
        operationLog.step(operation, "asking who uses them")
        var told: [GuestUser] = []
        while true {
            // Who takes them away in any case doesn't wait longer for a guest that says nothing.
            let patience = release.onDeadline == .cancel ? tools.times.impatience : tools.times.users
            let found = await users(
                of: attachments, in: name, for: max(min(deadline - .now, tools.times.users), patience))
            try checkCancelled(operation)
            guard guestRegistry[name]?.hasModule == true else { return }
            let isLate = ContinuousClock.now >= deadline
            switch found {
            case .success([]): return
            case .success(let users) where isLate:
                guard release.onDeadline == .cancel else { throw refusal(users, of: name, release) }
                return operationLog.step(operation, "used yet: " + Self.text(users))
            case .success(let users):
                if users != told { operationLog.step(operation, "waiting for " + Self.text(users)) }
                told = users
            case .failure(let error):
                // Where the module is gone, too, nothing there can be using them.
                let isOpen = tree.channelStatus(of: name)?.state == .open
                guard release.onDeadline == .cancel || !isOpen else { throw refusal(error, of: name) }
                change(name) { $0.silence = error }
                return operationLog.step(operation, "the guest can't say who uses them: \(error.message)")
            }
            await sleep(min(.milliseconds(500), max(deadline - .now, .zero)), with: name)
        }
    }

    /// Who uses these devices, and those that can't be told apart from them.
    private func users(
        of attachments: [Attachment], in name: String, for limit: Duration
    ) async -> Result<[GuestUser], USBError> {
        let way: GuestWay
        switch await self.way(into: name) {
        case .success(let found): way = found
        case .failure(let error): return .failure(error)
        }
        let answer = await ask(name, for: limit) { () async throws(USBError) in try await way.loader.users() }
        guard case .success(let users) = answer, !users.isEmpty else { return answer }
        let concerned = Set(attachments.map(\.record.id))
        let all = deviceRegistry.attachments(of: name)
        guard all.contains(where: { !concerned.contains($0.record.id) }) else { return answer }
        let records = all.map(\.record)
        var devices: [String: Set<DeviceID>] = [:]
        for port in Set(users.map(\.device)) {
            devices[port] = await GuestPort(path: port).candidates(among: records) { path in
                await self.ask(name, for: self.tools.times.question) { () async throws(USBError) in
                    try await way.kernel.readFile(path, limit: 256)
                }
            }
        }
        return .success(
            users.filter { user in
                let meant = devices[user.device, default: []]
                return meant.isEmpty || !meant.isDisjoint(with: concerned)
            })
    }

    private static func text(_ users: [GuestUser]) -> String {
        let shown = users.prefix(8).map { "\($0.text) (\($0.device))" }.joined(separator: ", ")
        return users.count > 8 ? shown + " and \(users.count - 8) more" : shown
    }

    private func refusal(_ users: [GuestUser], of name: String, _ release: Release) -> Problem {
        let text = Self.text(users)
        emit(.detachRefused, guest: name, detail: text)
        return Problem(
            .busy,
            "guest \(name) uses it yet after \(release.deadline.inSeconds) s: \(text)",
            remedy: "end that in the guest (umount it, close it), give a longer deadline, or take it away all the "
                + "same: vusbctl's --cancel, onDeadline: cancel"
        )
    }

    private func refusal(_ error: USBError, of name: String) -> Problem {
        let remedy = error.remedy.map { $0 + ", or" } ?? "mend that, or"
        return Problem(
            .busy,
            "guest \(name) can't say who uses it: \(error.message)",
            remedy: remedy + " take it away all the same: vusbctl's --cancel, onDeadline: cancel"
        )
    }

    // MARK: - Quiesce

    /// Returns once nothing that carries data to the devices is in flight. Reads that drivers keep parked don't count:
    /// they never end by themselves.
    /// - Returns: false where the module doesn't answer, and that isn't to keep anybody from going on.
    private func quiesce(
        _ attachments: [Attachment], of name: String, _ release: Release, until deadline: ContinuousClock.Instant,
        operation: Int
    ) async throws(Problem) -> Bool {
        operationLog.step(operation, Self.quiescing)
        let paths = attachments.map(\.path)
        defer { for path in paths { tree.resume(path: path, of: name) } }
        let limit = max(deadline - .now, tools.times.removal)
        let tree = tree
        let answer = await ask(name, for: limit + .seconds(1)) { () async throws(USBError) in
            await Self.all(paths) { await tree.quiesce(path: $0, of: name, for: limit) }
        }
        try checkCancelled(operation)
        guard guestRegistry[name]?.hasModule == true else { return false }
        guard case .success(true) = answer else {
            guard release.onDeadline == .refuse else {
                operationLog.step(operation, "the guest's module doesn't answer")
                return false
            }
            throw Problem(
                .busy,
                "the module in guest \(name) doesn't answer on its channel",
                remedy: "see whether the guest runs; or take it away all the same: vusbctl's --cancel, "
                    + "onDeadline: cancel"
            )
        }
        try await awaitQuiet(attachments, of: name, release, until: deadline, operation: operation)
        return true
    }

    private func awaitQuiet(
        _ attachments: [Attachment], of name: String, _ release: Release, until deadline: ContinuousClock.Instant,
        operation: Int
    ) async throws(Problem) {
        var pause = Duration.milliseconds(2)
        while let stuck = attachments.first(where: { deviceRegistry[$0.record.id]?.hasLeft == false && $0.isSending }) {
            guard ContinuousClock.now < deadline else {
                guard release.onDeadline == .refuse else { return }
                throw refusal(stuck, inFlight: stuck.device.inFlight, release)
            }
            await sleep(min(pause, deadline - .now), with: name)
            try checkCancelled(operation)
            guard guestRegistry[name]?.hasModule == true else { return }
            pause = min(pause * 2, .milliseconds(50))
        }
        operationLog.step(operation, "quiet")
    }

    // MARK: - Removal

    /// Has the guest let go of devices: at first so that its drivers finish what they must, then in any case. Bounded.
    func withdraw(_ attachments: [Attachment], from name: String, orderly: Bool, operation: Int?) async {
        guard guestRegistry[name]?.hasModule == true else { return }
        let stubborn = await withTaskGroup(of: String?.self) { group in
            for attachment in attachments {
                group.addTask { await self.withdraw(attachment, from: name, orderly: orderly) ? nil : attachment.path }
            }
            var paths: [String] = []
            for await path in group { if let path { paths.append(path) } }
            return paths.sorted()
        }
        guard let operation, !stubborn.isEmpty, guestRegistry[name]?.isGone == false else { return }
        operationLog.step(operation, "the guest hasn't let go of \(stubborn.joined(separator: ", "))")
    }

    private func withdraw(_ attachment: Attachment, from name: String, orderly: Bool) async -> Bool {
        let isThere = deviceRegistry[attachment.record.id]?.hasLeft == false
        if orderly, isThere, await withdraw(attachment, from: name, true, tools.times.drivers) { return true }
        return await withdraw(attachment, from: name, false, tools.times.removal)
    }

    private func withdraw(
        _ attachment: Attachment, from name: String, _ orderly: Bool, _ limit: Duration
    ) async -> Bool {
        let (tree, path) = (tree, attachment.path)
        let answer = await shielded {
            await self.ask(name, for: limit + .seconds(1)) { () async throws(USBError) in
                await tree.withdraw(path: path, from: name, orderly: orderly, for: limit)
            }
        }
        if case .success(true) = answer { return true }
        return false
    }

    // MARK: - The module

    /// Takes out what vusbd brought into the guest's kernel.
    /// - Returns: why it couldn't; what was brought is remembered then, as far as the guest is there yet.
    func removeModules(from name: String, operation: Int?) async -> USBError? {
        guard let guest = guestRegistry[name], let modules = guest.modules else { return nil }
        guard !guest.isGone else {
            change(name) { $0.modules = nil }
            if let operation { operationLog.step(operation, "its machine is off: nothing is taken out of it") }
            return nil
        }
        // One that said nothing just before isn't waited for once more.
        if let silence = guest.silence { return silence }
        let result = await shielded { await self.remove(modules, from: name, operation: operation) }
        // A guest that went off meanwhile has none any more.
        let isThere = guestRegistry[name]?.isGone == false
        switch result {
        case .failure(let error) where isThere: return error
        case .success(.left(let left, let error)) where isThere:
            change(name) { $0.modules = left }
            return error
        case .success(.out):
            if let operation { operationLog.step(operation, "module is out") }
        case .success, .failure: break
        }
        change(name) { $0.modules = nil }
        return nil
    }

    private func remove(
        _ modules: LoadedModules, from name: String, operation: Int?
    ) async -> Result<UnloadEnd, USBError> {
        let way: GuestWay
        switch await self.way(into: name) {
        case .success(let found): way = found
        case .failure(let error): return .failure(error)
        }
        return await telling(operation) { step in
            await self.work(in: name, for: self.tools.times.unload, operation: operation) { () async throws(USBError) in
                try await way.loader.unload(modules, step: step)
            }
        }
    }

    /// Somebody should know what stays in a guest.
    func tellOfLeftovers(in name: String, because error: USBError, operation: Int?) {
        guard let modules = guestRegistry[name]?.modules else { return }
        let text = "left in the guest: \(modules.parts.joined(separator: ", ")): \(error.message)"
        if let operation { operationLog.step(operation, text) }
        emit(.guestLeftover, guest: name, detail: text)
    }

    private static func all(_ paths: [String], _ isTrue: @escaping @Sendable (String) async -> Bool) async -> Bool {
        await withTaskGroup(of: Bool.self) { group in
            for path in paths { group.addTask { await isTrue(path) } }
            return await group.reduce(true) { $0 && $1 }
        }
    }
}

extension Attachment {
    /// Whether URBs that carry data to the device, or control transfers, are in flight.
    var isSending: Bool {
        let endpoints = device.settings.endpoints.map(\.bEndpointAddress).filter { $0.direction == .out }
        return ([.control] + endpoints).contains { device.inFlight(on: $0) > 0 }
    }
}
