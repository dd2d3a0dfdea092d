// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VUSBCore

/// Follows one VM over its QMP socket, across restarts of QEMU, until it's stopped.
///
/// Concurrency model: any thread. One task connects, follows and connects again; it alone changes the state, which is
/// in one `Mutex`, a leaf. `tell` is called by that task, in order.
final class QEMUMonitor: Sendable {
    /// How long to wait before it connects again: doubled each time up to the longest.
    struct BackOff: Sendable {
        var first: Duration = .milliseconds(100)
        var longest: Duration = .seconds(2)
    }

    private struct State {
        var machine = QEMUState()
        var client: QMPClient?
        /// Why there is no connection.
        var fault: USBError?
        var task: Task<Void, Never>?
        var isStopped = false
        /// The first attempt to connect is over.
        var isKnown = false
        var waiters: [CheckedContinuation<Void, Never>] = []
        /// Devices whose end somebody awaits, on this connection.
        var deletions: [DeviceDeletion] = []
    }

    private let guest: String
    private let path: String
    private let backOff: BackOff
    private let limits: QMPClient.Limits
    private let logger: Logger
    private let tell: @Sendable (VMMEvent.Kind, String) -> Void
    private let state = Mutex(State())

    /// - Parameter tell: told what happens to the guest, with a detail for people.
    init(
        guest: String, path: String, backOff: BackOff = BackOff(), limits: QMPClient.Limits = QMPClient.Limits(),
        logger: Logger, tell: @escaping @Sendable (VMMEvent.Kind, String) -> Void
    ) {
        self.guest = guest
        self.path = path
        self.backOff = backOff
        self.limits = limits
        self.logger = logger
        self.tell = tell
    }

    func start() {
        state.withLock { state in
            guard !state.isStopped else { return }
            state.task = Task { await run() }
        }
    }

    /// Nothing is told any more once it has returned.
    func stop() async {
        let (task, client) = state.withLock { state in
            state.isStopped = true
            return (state.task, state.client)
        }
        task?.cancel()
        client?.close()
        await task?.value
        known()
    }

    var guestState: VMMGuest.State { state.withLock { $0.machine.state } }

    /// Why there is no connection; nil while it stands.
    var fault: USBError? { state.withLock { $0.fault } }

    /// The connection, for commands.
    /// - Throws: why there is none.
    func client() throws(USBError) -> QMPClient {
        let (client, fault) = state.withLock { ($0.client, $0.fault) }
        if let client { return client }
        throw fault ?? USBError(.gone, "QEMU of guest \(guest) isn't connected", remedy: "start the VM")
    }

    /// Awaits DEVICE_DELETED of a device, from now on; `forget` ends that.
    /// - Throws: `gone` where the connection isn't the one any more on which it's going to be asked for.
    func deletion(of device: String, on client: QMPClient) throws(USBError) -> DeviceDeletion {
        let deletion = DeviceDeletion(of: device)
        let isCurrent = state.withLock { state in
            guard state.client === client else { return false }
            state.deletions.append(deletion)
            return true
        }
        guard isCurrent else { throw client.end ?? USBError(.gone, "QEMU closed \(path)") }
        return deletion
    }

    func forget(_ deletion: DeviceDeletion) { state.withLock { $0.deletions.removeAll { $0 === deletion } } }

    /// Returns when the first attempt to reach QEMU has come to an end, good or bad, or the task was cancelled.
    func waitUntilKnown() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isKnown = state.withLock { state in
                    if !state.isKnown { state.waiters.append(continuation) }
                    return state.isKnown
                }
                if isKnown { continuation.resume() }
            }
        } onCancel: {
            known()
        }
    }

    private func known() {
        let waiters = state.withLock { state in
            state.isKnown = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}

// MARK: - The task

extension QEMUMonitor {
    private func run() async {
        var delay = backOff.first
        while !Task.isCancelled {
            do throws(USBError) {
                let client = try await QMPClient.connect(to: path, limits: limits, logger: logger)
                delay = backOff.first
                try await follow(client)
            } catch {
                note(error)
            }
            known()
            // A cancelled sleep is seen by the loop.
            try? await Task.sleep(for: delay)
            delay = min(delay * 2, backOff.longest)
        }
    }

    /// From the greeting to the end of the connection.
    private func follow(_ client: QMPClient) async throws(USBError) {
        defer { client.close() }
        let status = try await client.execute("query-status")["status"]?.string ?? "unknown"
        let kind = state.withLock { state in
            state.client = client
            state.fault = nil
            let kind = state.machine.connected(status: status)
            // How the VM was found isn't something that happened to it.
            return state.isKnown ? kind : nil
        }
        logger.info(
            "connected to QEMU",
            metadata: [
                "guest": "\(guest)", "socket": "\(path)", "version": "\(client.version)", "status": "\(status)",
            ])
        known()
        if let kind { tell(kind, "QEMU \(client.version) is \(status)") }
        for await event in client.events { take(event) }
        lost(client.end)
    }

    private func take(_ event: QMPEvent) {
        if let device = DeviceDeletion.device(in: event) { deleted(device) }
        let detail = Self.detail(of: event)
        let kind = state.withLock { $0.machine.take(event) }
        let metadata: Logger.Metadata = ["guest": "\(guest)", "event": "\(detail)"]
        if let kind {
            logger.info("QEMU tells of its VM", metadata: metadata)
            tell(kind, detail)
        } else if event.name == "POWERDOWN" {
            logger.info("guest was asked to power down", metadata: metadata)
        } else {
            logger.debug("QEMU event", metadata: metadata)
        }
    }

    private func deleted(_ device: String) {
        for deletion in state.withLock({ $0.deletions }) where deletion.device == device { deletion.settle(nil) }
    }

    private func lost(_ end: USBError?) {
        let detail = end?.message ?? "QEMU closed \(path)"
        let (kind, deletions) = state.withLock { state in
            defer { state.deletions = [] }
            state.client = nil
            state.fault = end
            return (state.machine.lost(), state.deletions)
        }
        for deletion in deletions { deletion.settle(end ?? USBError(.gone, detail)) }
        guard !Task.isCancelled else { return }
        logger.info("connection to QEMU ended", metadata: ["guest": "\(guest)", "reason": "\(detail)"])
        if let kind { tell(kind, detail) }
    }

    /// Said once, not at each attempt.
    private func note(_ error: USBError) {
        let isNew = state.withLock { state in
            defer { state.fault = error }
            return state.fault?.message != error.message
        }
        guard isNew, !Task.isCancelled else { return }
        logger.notice("no connection to QEMU yet", metadata: ["guest": "\(guest)", "error": "\(error)"])
    }

    private static func detail(of event: QMPEvent) -> String {
        let words = ["reason", "action"].compactMap { event.data[$0]?.string }
        return PlainText.line(words.isEmpty ? event.name : "\(event.name): \(words.joined(separator: ", "))")
    }
}
