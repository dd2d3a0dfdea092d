// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBVMM

/// Mode `module`: the way into the guest's kernel, what is loaded there, and its hello. States.md has the steps.
extension ControlPlane {
    /// Opens the channel and sees to it that the module is in the guest and has said hello.
    func bringUpModule(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) {
        tree.openChannel(of: name)
        operationLog.step(operation, "channel is there")
        try await awaitWork(in: name, operation: operation)
        if plan.waitsForBoot { try await awaitAgent(of: name, operation: operation) }
        let way = try await way(into: name, operation: operation)
        if try await !hasModules(name, way, operation: operation) {
            try await insertModules(name, way, operation: operation)
        }
        try await awaitHello(of: name, operation: operation)
    }

    /// Whether what is done for the operation still makes sense: nobody cancelled it and the guest is there.
    func checkGoing(_ name: String, _ operation: Int) throws(Problem) {
        try checkCancelled(operation)
        guard guestRegistry[name]?.isGone == false else {
            throw Problem(.unavailable, "guest \(name) went off meanwhile", remedy: "load it again when it runs")
        }
    }

    /// Before anything is asked of it: its agent does one thing at a time.
    func awaitWork(in name: String, operation: Int) async throws(Problem) {
        let failure: USBError? = await awaitWork(in: name, operation: operation)
        try checkGoing(name, operation)
        if let failure { throw Problem(failure, while: "load of guest \(name)") }
    }

    // MARK: - The way in

    func way(into name: String) async -> Result<GuestWay, USBError> {
        guard let guest = guestRegistry[name], let connector = connectors[guest.definition.connector] else {
            return .failure(USBError(.notFound, "no guest \(name)"))
        }
        let tools = tools
        return await ask(name, for: tools.times.question) { () async throws(USBError) in
            let kernel = try await connector.kernel(of: name)
            return GuestWay(kernel: kernel, loader: tools.loader(kernel, tools.store))
        }
    }

    func way(into name: String, operation: Int) async throws(Problem) -> GuestWay {
        let result = await way(into: name)
        try checkGoing(name, operation)
        do {
            return try result.get()
        } catch {
            throw Problem(error, while: "load of guest \(name)")
        }
    }

    /// A machine that has just been started has no agent yet.
    func awaitAgent(of name: String, operation: Int) async throws(Problem) {
        let deadline = ContinuousClock.now + tools.times.boot
        var pause = Duration.milliseconds(250)
        while true {
            guard let failure = await agentFailure(of: name) else { return }
            try checkGoing(name, operation)
            // Those that waiting doesn't mend, and that the load itself explains.
            if [.unsupported, .accessDenied, .invalid].contains(failure.code) { return }
            guard ContinuousClock.now < deadline else { throw Problem(failure, while: "load of guest \(name)") }
            if pause == .milliseconds(250) { operationLog.step(operation, "waiting for the guest's agent") }
            await sleep(pause, with: name)
            try checkGoing(name, operation)
            pause = min(pause * 2, .seconds(5))
        }
    }

    /// Why the guest can't be asked anything; nil where it answers.
    func agentFailure(of name: String) async -> USBError? {
        switch await way(into: name) {
        case .failure(let error): return error
        case .success(let way):
            let answer = await ask(name, for: tools.times.question) { () async throws(USBError) in
                try await way.kernel.readFile("/proc/sys/kernel/random/boot_id", limit: 64)
            }
            if case .failure(let error) = answer { return error }
            return nil
        }
    }

    /// Sleeps, but not longer than the guest is there.
    func sleep(_ pause: Duration, with name: String) async {
        _ = await ask(name, for: pause + .seconds(1)) { () async throws(USBError) in
            // A cancelled sleep is looked at by the caller.
            try? await Task.sleep(for: pause)
        }
    }

    // MARK: - The module

    /// Whether what was loaded earlier is there yet: after a restart of vusbd, or a monitor that was lost for a while.
    private func hasModules(_ name: String, _ way: GuestWay, operation: Int) async throws(Problem) -> Bool {
        guard let before = guestRegistry[name]?.modules else { return false }
        let answer = await ask(name, for: tools.times.question) { () async throws(USBError) in
            try await way.loader.isStillLoaded(before)
        }
        try checkGoing(name, operation)
        switch answer {
        case .success(true):
            operationLog.step(operation, "module is loaded since before")
            return true
        // A part of it may be there yet.
        case .success(false): return false
        case .failure(let error): throw Problem(error, while: "load of guest \(name)")
        }
    }

    private func insertModules(_ name: String, _ way: GuestWay, operation: Int) async throws(Problem) {
        guard let definition = guestRegistry[name]?.definition, let share = definition.share(mount: facts.mount),
            let path = definition.channelPath(mount: facts.mount)
        else { throw GuestFields(guest: name).missing("share", of: "mode module", .conflict) }
        let result = await telling(operation) { step in
            await self.work(in: name, for: self.tools.times.load, operation: operation) { () async throws(USBError) in
                try await way.loader.load(share, channelPath: path, step: step)
            }
        }
        switch result {
        case .success(let loaded):
            change(name) { $0.modules = loaded.adopting($0.modules) }
            // Before anything else can go wrong: a vusbd that is killed now finds it again.
            await persist()
            try checkGoing(name, operation)
        case .failure(let error):
            try checkGoing(name, operation)
            throw Problem(ofGuest: error, while: "load of guest \(name)")
        }
    }

    /// Makes steps of what work in a guest tells, in its order, and all of them before this returns.
    func telling<Value: Sendable>(
        _ operation: Int?, _ work: (@escaping @Sendable (String) -> Void) async -> Value
    ) async -> Value {
        let (stream, continuation) = AsyncStream.makeStream(of: String.self)
        let pump = Task {
            for await text in stream { if let operation { self.operationLog.step(operation, text) } }
        }
        let value = await work { continuation.yield($0) }
        continuation.finish()
        await pump.value
        return value
    }

    // MARK: - Hello

    private func awaitHello(of name: String, operation: Int) async throws(Problem) {
        let limit = tools.times.hello
        let deadline = ContinuousClock.now + limit
        if tree.channelStatus(of: name)?.state != .open { operationLog.step(operation, "waiting for its hello") }
        while tree.channelStatus(of: name)?.state != .open {
            let rest = deadline - .now
            guard rest > .zero else { throw silence(of: name, limit) }
            let gate = Gate()
            helloGates[name] = gate
            // By event: the state is looked at right before, in the same step of the actor.
            _ = await ask(name, for: rest) { () async throws(USBError) in await gate.wait() }
            helloGates[name] = nil
            try checkGoing(name, operation)
        }
        let peer = tree.channelStatus(of: name)?.peer ?? "the module"
        operationLog.step(operation, "hello from \(quoted(peer))")
    }

    private func silence(of name: String, _ limit: Duration) -> Problem {
        let status = tree.channelStatus(of: name)
        let path = guestRegistry[name]?.definition.channelPath(mount: facts.mount) ?? "hcd"
        let what = "guest \(name): its module is loaded, and after \(limit.inSeconds) s "
        let own = exportedDirectory(of: name)
        switch status?.state {
        case .greeting:
            return Problem(
                .timedOut,
                what + "it has opened \(path) but hasn't said hello",
                remedy: "its exporter may serve one request at a time: start virtiofsd with --thread-pool-size=4 "
                    + "or more, then load it again"
            )
        case .broken, .leaving:
            return Problem(
                .failed,
                what + "what it said on \(path) was against the rules",
                remedy: "`vusbctl watch --after 0` names the rule; use builds of the module that belong to this vusbd"
            )
        case .closed, .open, nil:
            return Problem(
                .timedOut,
                what + "nobody has opened \(own)/hcd, which is \(path) there",
                remedy: "see in the guest that \(path) is there: what its machine exports must be \(own) and nothing "
                    + "above or below it"
            )
        }
    }

    /// What of this host the guest's kernel is to see.
    func exportedDirectory(of name: String) -> String {
        guestRegistry[name]?.definition.isExported == true ? exports.path(of: name) : facts.mount + "/guests/" + name
    }
}
