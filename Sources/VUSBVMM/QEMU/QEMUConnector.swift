// SPDX-License-Identifier: Apache-2.0

package import Logging
internal import Synchronization
package import VUSBCore

/// Guests that are QEMU's virtual machines: their life is followed over QMP, their kernel is reached through the guest
/// agent. QEMU.md says what a VM needs.
///
/// Concurrency model: any thread. The bound guests are in one `Mutex`, a leaf; each has a monitor with a task of its own,
/// which puts events into the stream, and an agent, an actor.
package final class QEMUConnector: VMMConnector {
    package let name = "qemu"
    package let modes: [GuestMode] = [.redirect, .module, .files, .usbip]

    struct Limits: Sendable {
        var backOff = QEMUMonitor.BackOff()
        var monitor = QMPClient.Limits()
        var agent = GuestAgent.Limits()
        var plug = QEMUPlug.Limits()
    }

    private struct Binding {
        let monitor: QEMUMonitor
        /// Nil where the guest was declared without its socket.
        let agent: GuestAgent?
    }

    private let limits: Limits
    private let bindings = Mutex<[String: Binding]>([:])
    private let stream: AsyncStream<VMMEvent>
    private let continuation: AsyncStream<VMMEvent>.Continuation
    private let logger: Logger

    package convenience init(logger: Logger) { self.init(limits: Limits(), logger: logger) }

    init(limits: Limits, logger: Logger) {
        self.limits = limits
        self.logger = logger
        (stream, continuation) = AsyncStream.makeStream(of: VMMEvent.self)
    }

    package func guests() async throws(USBError) -> [VMMGuest] {
        let bound = bindings.withLock { $0 }
        return bound.sorted { $0.key < $1.key }.map { VMMGuest(name: $0.key, state: $0.value.monitor.guestState) }
    }

    /// Returns when it's known where the VM is, or that there is none now.
    /// - Throws: also, unless it waits, `busy` where QEMU doesn't greet (another client has the QMP socket, or QEMU
    ///   hangs), `accessDenied`, and `invalid` where it's no such socket.
    package func bind(_ guest: String, _ place: GuestPlace, waits: Bool = false) async throws(USBError) {
        let binding = try makeBinding(guest, place)
        let isNew = bindings.withLock { bindings in
            guard bindings[guest] == nil else { return false }
            bindings[guest] = binding
            return true
        }
        guard isNew else { throw USBError(.busy, "guest \(guest) is bound already", remedy: "unload it first") }
        binding.monitor.start()
        await binding.monitor.waitUntilKnown()
        if Task.isCancelled {
            await unbind(guest)
            throw USBError(.cancelled, "cancelled while connecting to QEMU of guest \(guest)")
        }
        if !waits, let fault = binding.monitor.fault, [.busy, .accessDenied, .invalid].contains(fault.code) {
            await unbind(guest)
            throw fault
        }
    }

    package func fault(of guest: String) async -> USBError? { bindings.withLock { $0[guest] }?.monitor.fault }

    private func binding(of guest: String) throws(USBError) -> Binding {
        guard let binding = bindings.withLock({ $0[guest] }) else {
            throw USBError(.notFound, "guest \(guest) isn't bound", remedy: "load it first")
        }
        return binding
    }

    private func makeBinding(_ guest: String, _ place: GuestPlace) throws(USBError) -> Binding {
        guard place.process == nil else {
            throw USBError(
                .invalid, "connector qemu doesn't find guest \(guest) by a process",
                remedy: "name the socket of its -qmp instead")
        }
        guard let path = place.monitorSocket else {
            throw USBError(
                .invalid, "guest \(guest) has no QMP socket",
                remedy: "start QEMU with -qmp unix:PATH,server=on,wait=off and name that path")
        }
        let monitor = QEMUMonitor(
            guest: guest, path: path, backOff: limits.backOff, limits: limits.monitor, logger: logger
        ) { [continuation] kind, detail in
            continuation.yield(VMMEvent(guest: guest, kind: kind, detail: detail))
        }
        let agent = place.agentSocket.map { GuestAgent(guest: guest, path: $0, limits: limits.agent) }
        return Binding(monitor: monitor, agent: agent)
    }

    package func unbind(_ guest: String) async {
        guard let binding = bindings.withLock({ $0.removeValue(forKey: guest) }) else { return }
        await end(binding)
    }

    private func end(_ binding: Binding) async {
        await binding.monitor.stop()
        await binding.agent?.close()
    }

    package func events() -> AsyncStream<VMMEvent> { stream }

    package func stop() async {
        let ended = bindings.withLock { bindings in
            defer { bindings = [:] }
            return Array(bindings.values)
        }
        for binding in ended { await end(binding) }
        continuation.finish()
    }

    // MARK: - The guest's kernel

    /// Asks the agent what it may do. It's there only once the guest has booted.
    /// - Throws: also `gone` where the VM is off, `busy` where it's paused, `timedOut` where the agent is silent for 5 s.
    package func kernel(of guest: String) async throws(USBError) -> any GuestKernel {
        let binding = try binding(of: guest)
        guard let agent = binding.agent else {
            throw USBError(
                .unsupported, "guest \(guest) was declared without an agent socket, so nothing can be loaded in it",
                remedy: "give the VM a virtserialport named org.qemu.guest_agent.0 and name the socket of its chardev")
        }
        try checkRunning(guest, binding.monitor)
        let commands: AgentCommands
        do throws(USBError) {
            commands = try await agent.commands()
        } catch {
            throw await explained(error, agent, binding.monitor)
        }
        try commands.require(AgentKernel.commands, of: guest)
        return AgentKernel(agent: agent)
    }

    private func explained(_ error: USBError, _ agent: GuestAgent, _ monitor: QEMUMonitor) async -> USBError {
        // The first error stands where QEMU doesn't answer either.
        guard let chardevs = try? await monitor.client().execute("query-chardev", within: .seconds(2)) else {
            return error
        }
        return AgentDiagnosis(chardevs, path: agent.path).explain(error, agent.guest, agent.path)
    }

    private func checkRunning(_ guest: String, _ monitor: QEMUMonitor) throws(USBError) {
        switch monitor.guestState {
        case .running, .unknown: return
        case .stopped:
            throw USBError(.busy, "guest \(guest) is paused", remedy: "resume it (QMP cont, virsh resume)")
        case .off: throw Self.isOff(guest, monitor.fault)
        }
    }

    private static func isOff(_ guest: String, _ fault: USBError?) -> USBError {
        USBError(
            .gone, "guest \(guest) is off" + (fault.map { ": " + $0.message } ?? ""),
            remedy: fault?.remedy ?? "start the VM")
    }

    // MARK: - Its USB controllers

    package func controllers(of guest: String) async throws(USBError) -> [GuestController] {
        try await plug(of: guest).controllers()
    }

    package func hotplug(
        _ guest: String, port: ControllerPort, wish: PlugWish, socketPath: String
    ) async throws(USBError) -> PluggedPort {
        try await plug(of: guest).plug(port, wish, socketPath)
    }

    package func checkAnswers(_ guest: String, within limit: Duration) async throws(USBError) {
        try await plug(of: guest).checkAnswers(within: limit)
    }

    package func missingController(of guest: String) -> USBError { PlugError.missingController(of: guest) }

    package func hotunplug(_ guest: String, port: ControllerPort, within limit: Duration) async throws(USBError) {
        try await plug(of: guest).unplug(QEMUPlug.id(of: port), within: limit)
    }

    package func unplugLeftovers(of guest: String, named prefix: String = "") async throws(USBError) -> Int {
        try await plug(of: guest).unplugLeftovers(named: prefix)
    }

    /// QEMU plugs whatever its VM does just now; it only has to be there.
    private func plug(of guest: String) throws(USBError) -> QEMUPlug {
        let monitor = try binding(of: guest).monitor
        let client: QMPClient
        do throws(USBError) {
            client = try monitor.client()
        } catch {
            throw Self.isOff(guest, error)
        }
        return QEMUPlug(guest: guest, monitor: monitor, client: client, limits: limits.plug, logger: logger)
    }
}
