// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A device as its guest has it: the one seam above. Every front submits here and knows nothing below.
///
/// It checks once what the guest asks for, intercepts the standard requests that change what the host must know,
/// and counts what is in flight so that a device is never taken away under a URB.
///
/// Concurrency model: any thread submits, cancels and completes. All state is in one `Mutex`, which is held across no
/// call to the backend or to a handler. The control plane drains, closes and resets. Lock order: none, it is a leaf.
/// Where it has a lane, URBs may be held back before they go to the backend, and go there on another thread.
/// Calls to the backend are counted while they run, so that its `close` is the last of them. The races of submit,
/// complete, cancel, unplug, close and stop are numbered in Cancellation.md.
package final class VirtualDevice: Sendable {
    package let descriptors: Descriptors
    package let speed: DeviceSpeed
    /// Where a front takes the buffers of its URBs from.
    package let pool: BufferPool
    /// Where it takes those from into which it copies data to send: memory from which the source sends without another
    /// copy, where it has such. Not for data that come in: the kernel won't let a front hand on all such memory.
    package let sendPool: BufferPool
    let backend: any USBBackend
    /// Nil for a device that isn't mass storage.
    let storageWatch: StorageWatch?
    /// Nil for a device that isn't a keyboard, or has no chord.
    let keyboard: KeyboardFilter?
    /// Asked before a URB goes to the backend; nil where nothing is scheduled.
    let lane: BusLane?
    /// Told how each URB ends; nil where nobody is to be told.
    package let health: DeviceHealth?
    /// How long `close` waits for what should be over at once: calls to the backend, and handlers.
    let closeLimit: Duration
    let state: Mutex<State>

    struct State {
        var admission = Admission.admitting
        var isResetting = false
        var closure = Closure.open
        /// Calls to the backend that haven't returned.
        var callsBelow = 0
        var table = URBTable()
        /// Asked for by the URBs in the table.
        var bytesInFlight = 0
        var settings: ActiveSettings
        var counters = Counters()
        var idleWaiters: [Int: CheckedContinuation<Void, Never>] = [:]
        var nextWaiter = 0
        /// Only the one `close` that does the work waits for the calls to return.
        var callsWaiter: CheckedContinuation<Void, Never>?
    }

    /// Bytes that one device's URBs may ask for at once, so that a guest can't exhaust the host's memory; as much as
    /// usbfs allows all its users together by default. Beyond it URBs end with `noMemory`.
    package static let bytesInFlightLimit = 16 << 20

    /// Whether new URBs are taken.
    package enum Admission: Sendable, Equatable {
        case admitting
        /// New ones end with `busy`; those in flight go on.
        case draining
        /// New ones end with this.
        case closed(URBStatus)
    }

    /// How far `close` has come.
    enum Closure {
        case open
        /// Others who close meanwhile wait for the first.
        case closing([CheckedContinuation<Void, Never>])
        case closed
    }

    /// Since the attachment began.
    package struct Counters: Sendable, Equatable {
        package var completedURBs: UInt64 = 0
        /// Those that were cancelled aren't among them: nobody found anything wrong with the device.
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
        pool: BufferPool,
        sendPool: BufferPool? = nil,
        lane: BusLane? = nil,
        keyboard: KeyboardFilter? = nil,
        health: DeviceHealth? = nil,
        closeLimit: Duration = .seconds(5)
    ) {
        self.backend = backend
        self.lane = lane
        self.keyboard = keyboard
        self.health = health
        self.closeLimit = closeLimit
        self.descriptors = descriptors
        self.speed = speed
        self.pool = pool
        self.sendPool = sendPool ?? pool
        let settings = ActiveSettings(
            descriptors,
            configurationValue: configurationValue,
            alternates: alternates
        )
        storageWatch = StorageWatch(descriptors, settings)
        state = Mutex(State(settings: settings))
        keyboard?.serve(self)
    }

    package var settings: ActiveSettings { state.withLock { $0.settings } }
    package var counters: Counters { state.withLock { $0.counters } }
    package var inFlight: Int { state.withLock { $0.table.count } }

    /// Whether what the guest wrote is on the medium; nil for a device that isn't mass storage, or whose transport can't
    /// be followed. Not for the data path.
    package var storage: StorageState? { storageWatch?.state }

    /// `draining` during a reset too.
    package var admission: Admission { state.withLock { $0.effectiveAdmission } }

    /// The endpoint as it is now; nil where the settings in force don't have it.
    package func endpoint(_ address: EndpointAddress) -> EndpointDescriptor? {
        state.withLock { $0.settings.endpoint(address) }
    }

    /// URBs in flight on an endpoint: for `status`, not for the data path.
    package func inFlight(on address: EndpointAddress) -> Int {
        state.withLock { $0.table.count(on: address) }
    }

    // MARK: - Data path

    /// Accepts a URB, or completes it at once with why not; either way its handler is called exactly once.
    ///
    /// - Returns: what `cancel` takes; `.none` where the URB wasn't accepted. The URB may be complete by then.
    @discardableResult
    package func submit(_ urb: consuming URB) -> URBToken {
        // Read before the URB is in the table: what passes here passes behind all that was held back before.
        let scheduling = lane.flatMap { $0.isOpen ? nil : $0 }
        let phase = scheduling == nil ? URBTable.Phase.submitting : .held
        let verdict = state.withLock { state in state.admit(urb, descriptors, as: phase) }
        switch verdict {
        case .refused(let status):
            urb.complete(status)
            return .none
        case .accepted(let token, let operation):
            urb.token = token
            urb.operation = operation
            urb.device = self
            if let scheduling { schedule(urb, on: scheduling) } else { handDown(urb) }
            return token
        }
    }

    /// The backend gets it.
    func handDown(_ urb: consuming URB) {
        let token = urb.token
        if let keyboard, fill(&urb, from: keyboard) {
            urb.device = nil
            finish(urb)
        } else {
            storageWatch?.willSubmit(urb)
            backend.submit(urb)
        }
        submitReturned(token)
        // Reports may have come to wait while it was on its way.
        if keyboard != nil { deliverReports() }
    }

    private func submitReturned(_ token: URBToken) {
        let (isCancelled, isAwaited) = state.withLock { state in
            if state.table.submitted(token) { return (true, false) }
            return (false, state.callsReturned(1))
        }
        // A cancel that came meanwhile was left to us: no backend is asked to cancel what it doesn't have yet.
        if isCancelled {
            backend.cancel(token)
            callsReturned(1)
        } else if isAwaited {
            tellCallsWaiter()
        }
    }

    /// Asks that a URB end soon; it still completes, with `cancelled` or with what it achieved. A token that is no
    /// longer current is ignored.
    package func cancel(_ token: URBToken) {
        let target = state.withLock { state in
            let target = state.table.cancel(token)
            if target == .backend { state.callsBelow += 1 }
            return target
        }
        switch target {
        case .nobody: break
        case .scheduler: endHeld([token])
        case .backend:
            backend.cancel(token)
            callsReturned(1)
        }
    }

    /// The backend's half of the end of a URB; called by `URB.complete`.
    func urbCompleted(_ urb: consuming URB) {
        if let keyboard, !filter(&urb, by: keyboard) {
            urb.device = self
            return handDown(urb)
        }
        finish(urb)
    }

    /// It's the guest's now.
    private func finish(_ urb: consuming URB) {
        let token = urb.token
        let length = urb.requestedLength
        let final: URBStatus? = state.withLock { state in
            guard state.table.complete(token) else { return nil }
            // Its submitter may hand in another one before it returns.
            state.bytesInFlight -= length
            let status = state.finalStatus(urb.status)
            state.account(for: urb, status, descriptors)
            return status
        }
        // A URB that the table doesn't know was never accepted by this device: a defect of the backend.
        assert(final != nil, "URB completed twice or by the wrong device")
        if let final { urb.status = final }
        storageWatch?.didComplete(urb)
        health?.ended(urb.endpoint, urb.status)
        let isAwaited = lane.map { leaveLane($0, urb) } ?? false
        let handler = urb.handler
        handler.urbCompleted(urb)
        // Only now does it stop counting as in flight: drained means that all have been told.
        let waiters = state.withLock { state in
            _ = state.table.remove(token)
            return state.takeWaitersIfIdle()
        }
        for waiter in waiters { waiter.resume() }
        // Last: others' URBs have waited, and this one's submitter has been told.
        if isAwaited { lane?.pump() }
    }

    /// Balances `callsBelow`.
    func callsReturned(_ count: Int) {
        if state.withLock({ $0.callsReturned(count) }) { tellCallsWaiter() }
    }

    /// Looks anew: a cancel may have begun meanwhile, and whoever it is that ends last tells.
    private func tellCallsWaiter() {
        state.withLock { $0.callsBelow == 0 ? $0.callsWaiter.take() : nil }?.resume()
    }
}

extension VirtualDevice.State {
    enum Verdict {
        case refused(URBStatus)
        /// Unless it's `held`, counted in `callsBelow`: the caller owes a `callsReturned`.
        case accepted(URBToken, URB.Operation)
    }

    var effectiveAdmission: VirtualDevice.Admission {
        isResetting && admission == .admitting ? .draining : admission
    }

    /// - Returns: whether somebody may wait for it: only on a device that is being closed. No continuation is touched on
    ///   the way of every URB.
    fileprivate mutating func callsReturned(_ count: Int) -> Bool {
        callsBelow -= count
        guard callsBelow == 0, case .closed = admission else { return false }
        return true
    }

    fileprivate mutating func admit(
        _ urb: borrowing URB, _ descriptors: Descriptors, as phase: URBTable.Phase
    ) -> Verdict {
        switch effectiveAdmission {
        case .admitting: break
        case .draining: return .refused(.busy)
        case .closed(let status): return .refused(status)
        }
        switch URBCheck.check(urb, settings: settings, descriptors: descriptors) {
        case .complete(let status): return .refused(status)
        case .carryOut(let operation):
            guard bytesInFlight + urb.requestedLength <= VirtualDevice.bytesInFlightLimit,
                let token = table.insert(endpoint: urb.endpoint, as: phase)
            else { return .refused(.noMemory) }
            bytesInFlight += urb.requestedLength
            if phase == .submitting { callsBelow += 1 }
            return .accepted(token, operation)
        }
    }

    /// On a closed device nobody cares who cancelled: the URB ended because the device went.
    fileprivate func finalStatus(_ status: URBStatus) -> URBStatus {
        guard case .closed(let reason) = admission, status == .cancelled else { return status }
        return reason
    }

    fileprivate mutating func account(for urb: borrowing URB, _ status: URBStatus, _ descriptors: Descriptors) {
        counters.completedURBs += 1
        guard status == .success || status == .partial else {
            if status != .cancelled { counters.failedURBs += 1 }
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
            settings.choose(interface, alternate: alternate, descriptors)
        case .transfer, .clearHalt: break
        }
    }

    mutating func takeWaitersIfIdle() -> [CheckedContinuation<Void, Never>] {
        guard table.count == 0, !idleWaiters.isEmpty else { return [] }
        defer { idleWaiters.removeAll() }
        return Array(idleWaiters.values)
    }
}
