// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import NIOCore
internal import NIOPosix
internal import Synchronization
internal import VUSBCore

/// One device of one server: its session is made, and made again when it's lost. The states are those of Imports.md.
///
/// Concurrency model: one task connects, tells and waits; the control plane's tasks open, renew and end. What they share is in
/// one `Mutex`, a leaf.
final class USBIPImport: Sendable {
    /// What there is while the device is here.
    private struct Presence: Sendable {
        let connection: USBIPImportConnection
        let session: USBIPImportSession
        let record: DeviceRecord
    }

    /// What the imports of a source share.
    struct Surroundings: Sendable {
        let group: any EventLoopGroup
        /// Of servers' names; nil for the system's.
        var resolver: (any Resolver & Sendable)?
        let patience: USBIPImportPatience
        let loops: USBIPLoopGuard
        let logger: Logger
        let tell: @Sendable (DeviceEvent) -> Void
    }

    private enum Holder {
        case nobody
        case opening
        case device(ObjectIdentifier)
    }

    private struct State {
        var shown = USBIPImportStatus.State.connecting
        var attempts = 0
        var lastFailure: String?
        /// From its making to its end.
        var connection: USBIPImportConnection?
        var presence: Presence?
        var holder = Holder.nobody
        var isForgotten = false
        /// A reset waits for a new session.
        var renewal: USBIPOutcome<Result<USBIPImportSession, USBError>>?
        var lastRefusal: String?
        var task: Task<Void, Never>?
    }

    let id: DeviceID
    let remote: USBIPRemote
    let firstTry = USBIPOutcome<Result<Void, USBError>>()
    private let around: Surroundings
    private let state = Mutex(State())

    init(_ id: DeviceID, _ remote: USBIPRemote, _ around: Surroundings) {
        self.id = id
        self.remote = remote
        self.around = around
    }

    func start() {
        let task = Task { await run() }
        state.withLock { $0.task = task }
    }

    var status: USBIPImportStatus {
        state.withLock {
            USBIPImportStatus(
                id: id, remote: remote, state: $0.shown, attempts: $0.attempts, lastFailure: $0.lastFailure)
        }
    }

    private var patience: USBIPImportPatience { around.patience }
    private var isForgotten: Bool { state.withLock { $0.isForgotten } }

    // MARK: - The task

    private func run() async {
        var pause = patience.firstPause
        while !isForgotten {
            var failure: USBError
            do throws(USBError) {
                state.withLock { state in
                    state.shown = .connecting
                    state.connection = nil
                }
                let presence = try await arrive()
                let since = ContinuousClock.now
                announce(presence)
                failure = await stay(presence)
                leave(failure)
                if .now - since >= patience.longestPause { pause = patience.firstPause }
            } catch {
                failure = error
                around.logger.info("\(id), \(remote): \(error)")
            }
            firstTry.settle(.failure(failure))
            await wait(failure, pause)
            pause = min(pause * 2, patience.longestPause)
        }
    }

    private func wait(_ failure: USBError, _ pause: Duration) async {
        let next = ContinuousClock.now + pause
        state.withLock { state in
            state.connection = nil
            state.attempts += 1
            state.lastFailure = failure.message
            state.shown = .waiting(reason: failure.message, next: next)
        }
        // `end` cancels it, and the task is over then.
        try? await Task.sleep(until: next, clock: .continuous)
    }

    /// The connection, the device's record.
    private func arrive() async throws(USBError) -> Presence {
        let connector = USBIPConnector(group: around.group, limit: patience.operation, resolver: around.resolver)
        let connection = try await connector.connect(remote.server) { loop in
            USBIPImportConnection(remote, patience, around.loops, loop)
        }
        let isForgotten = state.withLock { state in
            state.connection = connection
            return state.isForgotten
        }
        if isForgotten { connection.cut(Self.forgotten) }
        do throws(USBError) {
            let session = try await connection.session()
            let record = try await read(session)
            session.descriptors = record.descriptors
            return Presence(connection: connection, session: session, record: record)
        } catch {
            connection.cut(error)
            let reason = await connection.end()
            // What has ended the connection says more than that it's gone.
            throw error.code == .gone ? reason : error
        }
    }

    private func read(_ session: USBIPImportSession) async throws(USBError) -> DeviceRecord {
        do throws(USBError) {
            return try await USBIPDescriptorReader(session: session, limit: patience.control).record(id)
        } catch {
            // V10.
            if error.code == .invalid { refuse(error.message) }
            throw error
        }
    }

    /// Once for each reason.
    private func refuse(_ reason: String) {
        let isNew = state.withLock { state in
            defer { state.lastRefusal = reason }
            return state.lastRefusal != reason
        }
        if isNew { around.tell(.refused(id, reason: reason)) }
    }

    private func announce(_ presence: Presence) {
        state.withLock { state in
            state.presence = presence
            state.shown = .imported
            state.attempts = 0
            state.lastFailure = nil
            state.lastRefusal = nil
        }
        around.logger.info("\(id): imported \(remote)")
        around.tell(.arrived(presence.record))
        firstTry.settle(.success(()))
    }

    private func leave(_ reason: USBError) {
        state.withLock { state in
            state.presence = nil
            // Who hears that it has left may ask why.
            state.shown = .waiting(reason: reason.message, next: .now)
            state.lastFailure = reason.message
            state.holder = .nobody
        }
        around.logger.info("\(id), \(remote), has left: \(reason)")
        around.tell(.left(id))
    }

    /// Until the connection is lost.
    private func stay(_ first: Presence) async -> USBError {
        var presence = first
        while true {
            let reason = await presence.connection.end()
            guard let renewal = takeRenewal() else { return reason }
            do throws(USBError) {
                presence = try await again(presence.record)
                state.withLock { $0.presence = presence }
                renewal.settle(.success(presence.session))
            } catch {
                state.withLock { $0.connection = nil }
                renewal.settle(.failure(error))
                return error
            }
        }
    }

    /// Nil where none is wanted; none comes later then.
    private func takeRenewal() -> USBIPOutcome<Result<USBIPImportSession, USBError>>? {
        state.withLock { state in
            let renewal = state.renewal.take()
            if renewal == nil { state.connection = nil }
            return renewal
        }
    }

    /// L6: the server may be at the reset yet.
    private func again(_ record: DeviceRecord) async throws(USBError) -> Presence {
        let presence = try await arrive(until: .now + patience.renewal)
        guard presence.record != record else { return presence }
        let error = USBError(.gone, "it's another device after its reset")
        presence.connection.cut(error)
        _ = await presence.connection.end()
        throw error
    }

    /// Whatever a try fails with: a server that isn't ready may refuse, or close the connection.
    private func arrive(until deadline: ContinuousClock.Instant) async throws(USBError) -> Presence {
        while true {
            do throws(USBError) {
                return try await arrive()
            } catch {
                guard !isForgotten, .now < deadline else { throw error }
            }
            // Cancelled only where it's forgotten.
            try? await Task.sleep(for: patience.renewalPause)
        }
    }

    // MARK: - The control plane

    private static let forgotten = USBError(.cancelled, "it is imported no longer")

    /// - Throws: `gone`, `busy`.
    func open(_ record: DeviceRecord) async throws(USBError) -> OpenedDevice {
        let presence = try take(record)
        let session = presence.session
        do throws(USBError) {
            let reader = USBIPDescriptorReader(session: session, limit: patience.control)
            guard try await reader.descriptors().bytes == record.descriptors.bytes else {
                let error = USBError(.gone, "\(id) has other descriptors now")
                presence.connection.cut(error)
                throw error
            }
            // Whatever those before have left: alternate settings are 0 then, and nothing is halted.
            let value = try await reader.configurationValue(record.descriptors)
            let settings = ActiveSettings(record.descriptors, configurationValue: value)
            try await session.apply(settings, within: patience.control)
            let device = USBIPImportedDevice(self, session, patience)
            state.withLock { if case .opening = $0.holder { $0.holder = .device(ObjectIdentifier(device)) } }
            return OpenedDevice(backend: device, configurationValue: value)
        } catch {
            state.withLock { if case .opening = $0.holder { $0.holder = .nobody } }
            throw error
        }
    }

    private func take(_ record: DeviceRecord) throws(USBError) -> Presence {
        try state.withLock { state throws(USBError) in
            guard let presence = state.presence else { throw USBError(.gone, "\(remote) isn't here now") }
            guard presence.record.descriptors == record.descriptors else {
                throw USBError(.gone, "\(id) is another device now", remedy: "look at the list of devices again")
            }
            guard case .nobody = state.holder else { throw USBError(.busy, "\(id) is open already") }
            state.holder = .opening
            return presence
        }
    }

    func release(_ device: USBIPImportedDevice) {
        state.withLock { state in
            guard case .device(let holder) = state.holder, holder == ObjectIdentifier(device) else { return }
            state.holder = .nobody
        }
    }

    /// Closes the session and makes another one, by which the server resets the device.
    /// - Throws: `gone`.
    func renew() async throws(USBError) -> USBIPImportSession {
        let outcome = USBIPOutcome<Result<USBIPImportSession, USBError>>()
        let connection = state.withLock { state -> USBIPImportConnection? in
            guard !state.isForgotten, state.presence != nil, let connection = state.connection else { return nil }
            state.renewal = outcome
            return connection
        }
        guard let connection else { throw USBError(.gone, "\(remote) isn't here now") }
        connection.cut(USBError(.cancelled, "\(remote) is reset"))
        return try await outcome.value().get()
    }

    /// Forgets it: the device has left, and its session is closed, when this returns.
    func end() async {
        let (task, connection) = state.withLock { state in
            state.isForgotten = true
            return (state.task, state.connection)
        }
        task?.cancel()
        firstTry.settle(.failure(Self.forgotten))
        connection?.cut(Self.forgotten)
        // Nothing of it is the loop's to do any more then.
        await task?.value
    }
}
