// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// A virtual machine with an agent and a kernel that modules are loaded into, as a test wants it.
final class TestMachine: Sendable {
    struct Behaviour: Sendable {
        /// Its agent answers nothing, nor says no.
        var isSilent = false
        /// Its monitor accepts and says nothing.
        var monitorIsSilent = false
        var agentError: USBError?
        var loadError: USBError?
        var unloadError: USBError?
        /// An unload takes out the modules, and their mount stays because of this.
        var unmountError: USBError?
        /// Loading goes on until it's cancelled, or the machine is gone.
        var loadHangs = false
        /// A load that was cancelled undoes its half, and waits for `letGo` in that.
        var undoHangs = false
        /// Unloading waits for `letGo`.
        var unloadHangs = false
        var saysHello = true
        /// Making it ready to attach from inside fails.
        var clientError: USBError?
        /// Attaching a device inside fails.
        var attachError: USBError?
        /// Attaching goes on until it's cancelled, or the machine is gone.
        var attachHangs = false
        /// Attaching waits for `letGo`.
        var attachWaits = false
        /// Who uses its devices. Each question takes one answer, the last one stays.
        var users: [[GuestUser]] = [[]]
        var files: [String: String] = [:]
        var controllers: [GuestController] = []
        var plugError: USBError?
        var unplugError: USBError?
        /// Its monitor doesn't answer questions.
        var answerError: USBError?
        /// What an earlier vusbd has left in it.
        var leftovers = 0
    }

    private struct State {
        var life = VMMGuest.State.running
        var boot = 1
        var modules: LoadedModules?
        var behaviour = Behaviour()
        var journal: [String] = []
        var held: CheckedContinuation<Void, Never>?
        /// What the module does when it has a channel, or loses it.
        var onModule: @Sendable (Bool) -> Void = { _ in }
    }

    let name: String
    private let state = Mutex(State())
    /// Tells whenever a load, its undoing or an unload that hangs has begun.
    let hangs = Inbox<String>()
    /// Tells whenever it was asked something and is silent.
    let asked = Inbox<String>()

    init(_ name: String) { self.name = name }

    var life: VMMGuest.State { state.withLock { $0.life } }
    var modules: LoadedModules? { state.withLock { $0.modules } }
    var journal: [String] { state.withLock { $0.journal } }
    var behaviour: Behaviour {
        get { state.withLock { $0.behaviour } }
        set { state.withLock { $0.behaviour = newValue } }
    }

    func change(_ body: (inout Behaviour) -> Void) { state.withLock { body(&$0.behaviour) } }
    func note(_ text: String) { state.withLock { $0.journal.append(text) } }
    func onModule(_ handler: @escaping @Sendable (Bool) -> Void) { state.withLock { $0.onModule = handler } }

    /// Whether a channel that is there now gets a hello.
    var greets: Bool { state.withLock { $0.life == .running && $0.modules != nil && $0.behaviour.saysHello } }

    // MARK: - What tests do

    func turnOff() {
        tellModule(false) { state in
            state.life = .off
            state.modules = nil
        }
    }

    func start() {
        state.withLock { state in
            state.life = .running
            state.boot += 1
            state.modules = nil
        }
    }

    /// What hangs until this goes on.
    func letGo() {
        let waiter = state.withLock { state in
            state.behaviour.unloadHangs = false
            state.behaviour.undoHangs = false
            return state.held.take()
        }
        waiter?.resume()
    }

    private func hold() async {
        await withCheckedContinuation { continuation in
            state.withLock { $0.held = continuation }
            hangs.append(name)
        }
    }

    func pause() { state.withLock { $0.life = .stopped } }
    func resume() { state.withLock { $0.life = .running } }

    // MARK: - What is done in it

    func answer() async throws(USBError) {
        let (isSilent, error, life) = state.withLock { ($0.behaviour.isSilent, $0.behaviour.agentError, $0.life) }
        if isSilent || life != .running {
            asked.append(name)
            try await Self.hang()
        }
        if let error { throw error }
    }

    static func hang() async throws(USBError) {
        // Only a cancellation ends it, and then there is nothing more to tell.
        try? await Task.sleep(for: .seconds(3600))
        throw USBError(.cancelled, "cancelled")
    }

    func insmod() async throws(USBError) -> LoadedModules {
        try await answer()
        if behaviour.loadHangs {
            hangs.append(name)
            try await hangAndUndo()
        }
        if let error = behaviour.loadError { throw error }
        let loaded = state.withLock { state in
            LoadedModules(
                bootID: "\(name) \(state.boot)", modules: ["vusb_channel", "vusb_hcd"], mountedAt: "/vusb")
        }
        tellModule(true) { state in
            state.modules = loaded
            state.journal.append("insmod")
        }
        return loaded
    }

    private func hangAndUndo() async throws(USBError) {
        do throws(USBError) {
            try await Self.hang()
        } catch {
            if behaviour.undoHangs { await hold() }
            note("undone")
            throw error
        }
    }

    func rmmod(_ loaded: LoadedModules) async throws(USBError) -> UnloadEnd {
        try await answer()
        if behaviour.unloadHangs { await hold() }
        if let error = behaviour.unloadError { throw error }
        let isThere = state.withLock { $0.modules == loaded }
        guard isThere else { throw USBError(.notFound, "not loaded") }
        tellModule(false) { state in
            state.modules = nil
            state.journal.append("rmmod")
        }
        guard let error = behaviour.unmountError else { return .out }
        return .left(LoadedModules(bootID: loaded.bootID, modules: [], mountedAt: loaded.mountedAt), because: error)
    }

    func loadClient(_ addresses: [AttachAddress], before: LoadedModules?) async throws(USBError) -> AttachLoad {
        try await answer()
        if behaviour.loadHangs {
            hangs.append(name)
            try await hangAndUndo()
        }
        if let error = behaviour.clientError { throw error }
        let loaded = state.withLock { state in
            LoadedModules(bootID: "\(name) \(state.boot)", modules: ["vhci_hcd"], helperDirectory: "/run/x")
        }
        state.withLock { state in
            state.modules = loaded
            state.journal.append("load \(addresses)\(before == loaded ? " again" : "")")
        }
        return AttachLoad(loaded: loaded, way: AttachWay(program: .helper("/run/x/v"), streams: [.vsock(port: 1)]))
    }

    func attach(_ busID: String) async throws(USBError) -> AttachStream {
        try await answer()
        if behaviour.attachHangs {
            hangs.append(name)
            try await Self.hang()
        }
        if behaviour.attachWaits { await hold() }
        if let error = behaviour.attachError { throw error }
        note("attach \(busID)")
        return .vsock(port: 1)
    }

    func users() async throws(USBError) -> [GuestUser] {
        try await answer()
        return state.withLock { state in
            state.behaviour.users.count > 1 ? state.behaviour.users.removeFirst() : state.behaviour.users[0]
        }
    }

    private func tellModule(_ isThere: Bool, _ change: (inout State) -> Void) {
        let handler = state.withLock { state in
            change(&state)
            return state.onModule
        }
        handler(isThere)
    }
}

struct TestKernel: GuestKernel {
    let machine: TestMachine
    var description: String { "guest \(machine.name)" }

    func run(_ program: String, _ arguments: [String], limit: Duration) async throws(USBError) -> ProgramResult {
        try await machine.answer()
        return ProgramResult(end: .exited(0))
    }

    func readFile(_ path: String, limit: Int) async throws(USBError) -> [UInt8] {
        try await machine.answer()
        if path.hasSuffix("/boot_id") { return Array("1\n".utf8) }
        guard let text = machine.behaviour.files[path] else { throw USBError(.notFound, "no \(path)") }
        return Array(text.utf8)
    }

    func insmod(
        _ module: String, image: [UInt8], parameters: String, progress: @Sendable (Int) -> Void
    ) async throws(USBError) {
        throw USBError(.unsupported, "a test's loader does that")
    }

    func rmmod(_ module: String) async throws(USBError) { throw USBError(.unsupported, "a test's loader does that") }
}

struct TestLoader: ModuleLoading {
    let machine: TestMachine

    func load(
        _ share: GuestShare, channelPath: String, step: @Sendable (String) -> Void
    ) async throws(USBError) -> LoadedModules {
        step("mounting \(share.path)")
        step("loading for \(channelPath)")
        return try await machine.insmod()
    }

    func isStillLoaded(_ loaded: LoadedModules) async throws(USBError) -> Bool {
        try await machine.answer()
        return machine.modules == loaded
    }

    func users() async throws(USBError) -> [GuestUser] { try await machine.users() }

    func unload(_ loaded: LoadedModules, step: @Sendable (String) -> Void) async throws(USBError) -> UnloadEnd {
        step("unloading")
        return try await machine.rmmod(loaded)
    }

    func loadClient(
        _ addresses: [AttachAddress], helper: AttachHelper, before: LoadedModules?, step: @Sendable (String) -> Void
    ) async throws(USBError) -> AttachLoad {
        step("loading vhci-hcd")
        return try await machine.loadClient(addresses, before: before)
    }

    func attach(_ busID: String, by way: AttachWay, limit: Duration) async throws(USBError) -> AttachStream {
        try await machine.attach(busID)
    }
}

/// The monitor of all test machines.
final class TestMonitor: VMMConnector {
    let name = "qemu"
    let modes: [GuestMode] = [.redirect, .module, .files, .usbip]

    private let bound = Mutex<Set<String>>([])
    private let machines: [String: TestMachine]
    private let stream: AsyncStream<VMMEvent>
    private let continuation: AsyncStream<VMMEvent>.Continuation

    init(_ machines: [TestMachine]) {
        self.machines = Dictionary(uniqueKeysWithValues: machines.map { ($0.name, $0) })
        (stream, continuation) = AsyncStream.makeStream(of: VMMEvent.self)
    }

    var boundGuests: Set<String> { bound.withLock { $0 } }

    func tell(_ kind: VMMEvent.Kind, _ guest: String) { continuation.yield(VMMEvent(guest: guest, kind: kind)) }

    func guests() async throws(USBError) -> [VMMGuest] {
        boundGuests.sorted().map { name in
            let isKnown = machines[name]?.behaviour.monitorIsSilent == false
            return VMMGuest(name: name, state: isKnown ? machines[name]?.life ?? .off : .off)
        }
    }

    func bind(_ guest: String, _ place: GuestPlace, waits: Bool) async throws(USBError) {
        guard machines[guest] != nil else { throw USBError(.notFound, "no machine \(guest)") }
        if !waits, let fault = await fault(of: guest) { throw fault }
        guard bound.withLock({ $0.insert(guest).inserted }) else { throw USBError(.busy, "\(guest) is bound") }
    }

    func fault(of guest: String) async -> USBError? {
        guard machines[guest]?.behaviour.monitorIsSilent == true else { return nil }
        return USBError(.busy, "QEMU doesn't greet", remedy: "give it a socket of its own")
    }

    func unbind(_ guest: String) async { bound.withLock { _ = $0.remove(guest) } }
    func events() -> AsyncStream<VMMEvent> { stream }
    func stop() async { continuation.finish() }

    // MARK: - Hot-plug

    func controllers(of guest: String) async throws(USBError) -> [GuestController] {
        try reachable(guest).behaviour.controllers
    }

    func hotplug(
        _ guest: String, port: ControllerPort, wish: PlugWish, socketPath: String
    ) async throws(USBError) -> PluggedPort {
        let machine = try reachable(guest)
        if let error = machine.behaviour.plugError { throw error }
        machine.note("plug \(port.name) at \(socketPath)")
        return PluggedPort(bus: "xhci.0", port: 1)
    }

    func checkAnswers(_ guest: String, within limit: Duration) async throws(USBError) {
        if let error = try reachable(guest).behaviour.answerError { throw error }
    }

    func missingController(of guest: String) -> USBError {
        USBError(.unsupported, "guest \(guest) has no USB controller", remedy: "add -device qemu-xhci")
    }

    func hotunplug(_ guest: String, port: ControllerPort, within limit: Duration) async throws(USBError) {
        let machine = try reachable(guest)
        if let error = machine.behaviour.unplugError { throw error }
        machine.note("unplug \(port.name)")
    }

    func unplugLeftovers(of guest: String, named prefix: String) async throws(USBError) -> Int {
        let machine = try reachable(guest)
        defer { machine.change { $0.leftovers = 0 } }
        return machine.behaviour.leftovers
    }

    private func reachable(_ guest: String) throws(USBError) -> TestMachine {
        guard let machine = machines[guest], machine.life != .off, !machine.behaviour.monitorIsSilent else {
            throw USBError(.gone, "\(guest) is off")
        }
        return machine
    }

    func kernel(of guest: String) async throws(USBError) -> any GuestKernel {
        guard boundGuests.contains(guest), let machine = machines[guest] else {
            throw USBError(.notFound, "guest \(guest) isn't bound")
        }
        return TestKernel(machine: machine)
    }
}
