// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A device as its guest has it: the one seam above. Every front submits here and knows nothing below.
///
/// It checks once what the guest asks for, intercepts the standard requests that change what the host must know,
/// and counts what is in flight so that a device is never taken away under a URB.
///
/// Concurrency model: any thread submits, cancels and completes. All state is in one `Mutex`, which is held across no
/// call to the backend or to a handler. The control plane drains, closes and resets. Lock order: none, it is a leaf.
/// The races of submit, complete, cancel, unplug, close and stop are numbered in Cancellation.md.
package final class VirtualDevice: Sendable {
    package let descriptors: Descriptors
    package let speed: DeviceSpeed
    /// Where a front takes the buffers of its URBs from.
    package let pool: BufferPool
    private let backend: any USBBackend
    private let state: Mutex<State>

    fileprivate struct State {
        var admission = Admission.admitting
        var table = URBTable()
        var settings: ActiveSettings
        var counters = Counters()
        var drainWaiters: [Int: CheckedContinuation<Void, Never>] = [:]
        var nextWaiter = 0
    }

    /// Whether new URBs are taken.
    package enum Admission: Sendable, Equatable {
        case admitting
        /// New ones end with `busy`; those in flight go on.
        case draining
        /// New ones end with this.
        case closed(URBStatus)
    }

    /// Since the attachment began.
    package struct Counters: Sendable, Equatable {
        package var completedURBs: UInt64 = 0
        package var failedURBs: UInt64 = 0
        package var bytesIn: UInt64 = 0
        package var bytesOut: UInt64 = 0
    }

    package init(
        backend: any USBBackend,
        descriptors: Descriptors,
        speed: DeviceSpeed,
        configurationValue: UInt8,
        alternates: [InterfaceNumber: UInt8] = [:],
        pool: BufferPool
    ) {
        self.backend = backend
        self.descriptors = descriptors
        self.speed = speed
        self.pool = pool
        let settings = ActiveSettings(
            descriptors,
            configurationValue: configurationValue,
            alternates: alternates
        )
        state = Mutex(State(settings: settings))
    }

    package var settings: ActiveSettings { state.withLock { $0.settings } }
    package var counters: Counters { state.withLock { $0.counters } }
    package var admission: Admission { state.withLock { $0.admission } }
    package var inFlight: Int { state.withLock { $0.table.count } }

    /// The endpoint as it is now; nil where the settings in force don't have it.
    package func endpoint(_ address: EndpointAddress) -> EndpointDescriptor? {
        state.withLock { $0.settings.endpoint(address) }
    }

    // MARK: - Data path

    /// Accepts a URB, or completes it at once with why not; either way its handler is called exactly once.
    ///
    /// - Returns: what `cancel` takes; `.none` where the URB wasn't accepted. The URB may be complete by then.
    @discardableResult
    package func submit(_ urb: consuming URB) -> URBToken {
        let verdict = state.withLock { state in Self.admit(&state, urb, descriptors) }
        switch verdict {
        case .refused(let status):
            urb.complete(status)
            return .none
        case .accepted(let token, let operation):
            urb.token = token
            urb.operation = operation
            urb.device = self
            backend.submit(urb)
            if state.withLock({ $0.table.submitted(token) }) { backend.cancel(token) }
            return token
        }
    }

    /// Asks that a URB end soon; it still completes, with `cancelled` or with what it achieved. A token that is no
    /// longer current is ignored.
    package func cancel(_ token: URBToken) {
        if state.withLock({ $0.table.cancel(token) }) { backend.cancel(token) }
    }

    private enum Verdict {
        case refused(URBStatus)
        case accepted(URBToken, URB.Operation)
    }

    private static func admit(_ state: inout State, _ urb: borrowing URB, _ descriptors: Descriptors) -> Verdict {
        switch state.admission {
        case .admitting: break
        case .draining: return .refused(.busy)
        case .closed(let status): return .refused(status)
        }
        switch URBCheck.check(urb, settings: state.settings, descriptors: descriptors) {
        case .complete(let status): return .refused(status)
        case .carryOut(let operation):
            guard let token = state.table.insert(endpoint: urb.endpoint) else { return .refused(.noMemory) }
            return .accepted(token, operation)
        }
    }

    /// The backend's half of the end of a URB; called by `URB.complete`.
    func urbCompleted(_ urb: consuming URB) {
        let token = urb.token
        let known = state.withLock { state in
            guard state.table.complete(token) else { return false }
            state.account(for: urb, descriptors)
            return true
        }
        // A URB that the table doesn't know was never accepted by this device: a defect of the backend.
        assert(known, "URB completed twice or by the wrong device")
        let handler = urb.handler
        handler.urbCompleted(urb)
        // Only now does it stop counting as in flight: drained means that all have been told.
        let waiters = state.withLock { state in
            state.table.remove(token)
            return state.takeWaitersIfIdle()
        }
        for waiter in waiters { waiter.resume() }
    }

    // MARK: - Control plane

    /// New URBs end with `busy` from now on. A device that is closed stays so.
    package func stopAdmitting() {
        state.withLock { if $0.admission == .admitting { $0.admission = .draining } }
    }

    /// Undoes `stopAdmitting`.
    package func resumeAdmitting() {
        state.withLock { if $0.admission == .draining { $0.admission = .admitting } }
    }

    package func cancelAll() {
        for token in state.withLock({ $0.table.cancelAll() }) { backend.cancel(token) }
    }

    /// The device is gone: URBs in flight end with what their source says, new ones with `noDevice`.
    package func disconnect() {
        state.withLock { $0.admission = .closed(.noDevice) }
        cancelAll()
    }

    /// Stops admitting and waits for the URBs in flight.
    /// - Returns: how many are still in flight at the deadline; 0 when drained. It still doesn't admit then.
    package func drain(for limit: Duration) async -> Int {
        stopAdmitting()
        return await waitUntilIdle(for: limit)
    }

    /// Ends the attachment: no URB is admitted, those in flight are cancelled and waited for, the backend is closed.
    package func close() async {
        state.withLock { if case .closed = $0.admission {} else { $0.admission = .closed(.noDevice) } }
        cancelAll()
        await backend.close()
    }

    /// Resets the port; URBs meanwhile end with `busy`.
    package func reset() async throws(USBError) {
        stopAdmitting()
        defer { resumeAdmitting() }
        do {
            try await backend.reset()
        } catch {
            if error.code == .gone { disconnect() }
            throw error
        }
    }

    /// Waits until nothing is in flight, at most for `limit`; returns how many still are.
    package func waitUntilIdle(for limit: Duration) async -> Int {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.idle() }
            group.addTask {
                // A cancelled sleep only means that the other child was first.
                try? await Task.sleep(for: limit)
            }
            await group.next()
            group.cancelAll()
        }
        return inFlight
    }

    private func idle() async {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isIdle = state.withLock { state in
                    guard state.table.count > 0, !Task.isCancelled else { return true }
                    state.drainWaiters[id] = continuation
                    return false
                }
                if isIdle { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.drainWaiters.removeValue(forKey: id) }?.resume()
        }
    }
}

extension VirtualDevice.State {
    fileprivate mutating func account(for urb: borrowing URB, _ descriptors: Descriptors) {
        counters.completedURBs += 1
        guard urb.status == .success || urb.status == .partial else {
            counters.failedURBs += 1
            return
        }
        if urb.direction == .in {
            counters.bytesIn += UInt64(urb.actualLength)
        } else {
            counters.bytesOut += UInt64(urb.actualLength)
        }
        switch urb.operation {
        case .setConfiguration(let value):
            settings = ActiveSettings(descriptors, configurationValue: value)
        case .setInterface(let interface, let alternate):
            var alternates = settings.alternates
            alternates[interface] = alternate
            settings = ActiveSettings(
                descriptors,
                configurationValue: settings.configurationValue,
                alternates: alternates
            )
        case .transfer, .clearHalt: break
        }
    }

    fileprivate mutating func takeWaitersIfIdle() -> [CheckedContinuation<Void, Never>] {
        guard table.count == 0, !drainWaiters.isEmpty else { return [] }
        defer { drainWaiters.removeAll() }
        return Array(drainWaiters.values)
    }
}
