// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Decides when a device misbehaves, from how its URBs end. It only tells, once; what follows is its owner's.
///
/// Concurrency model: any thread. A URB that ended well costs one relaxed load; only one that ended badly takes the
/// `Mutex`, a leaf, held across no call. The mask is written with the `Mutex` held: a success that doesn't see a stall
/// of another thread yet counts as having come before it.
package final class DeviceHealth: Sendable {
    private struct State {
        /// By the endpoint's index.
        var stalls = [EventCount](repeating: EventCount(), count: 32)
        var babble = EventCount()
        var protocolErrors = EventCount()
        var verdict: Misbehaviour?
    }

    package let limits: HealthLimits
    /// Read at a URB that ended badly.
    private let clock: any AlarmClock
    private let onMisbehaviour: @Sendable (Misbehaviour) -> Void
    /// Endpoints that have stalled since their last success, a bit an index.
    private let stalled = Atomic<UInt32>(0)
    private let state = Mutex(State())

    /// - Parameter onMisbehaviour: called once at most, on whatever thread completes a URB or calls
    ///   `VirtualDevice.overdue`, with no lock held. It must not block; it may disconnect the device.
    package init(
        _ limits: HealthLimits,
        clock: any AlarmClock = AlarmThread.shared,
        onMisbehaviour: @escaping @Sendable (Misbehaviour) -> Void
    ) {
        self.limits = limits
        self.clock = clock
        self.onMisbehaviour = onMisbehaviour
    }

    /// Why it was judged; nil while nothing is wrong with it.
    package var verdict: Misbehaviour? { state.withLock { $0.verdict } }

    /// A URB has ended: called for each.
    func ended(_ endpoint: EndpointAddress, _ status: URBStatus) {
        switch status {
        case .success, .shortNotOK, .partial:
            if stalled.load(ordering: .relaxed) & endpoint.bit != 0 { succeeded(endpoint) }
        case .stall, .babble, .protocolError, .io, .checksumError, .noResponse: failed(endpoint, status)
        default: break
        }
    }

    /// Cancelled URBs haven't ended in time.
    func hasOverdue(_ count: Int, after time: Duration, on endpoint: EndpointAddress) {
        judge { _ in .cancelledInFlight(count, after: time, on: endpoint) }
    }

    private func succeeded(_ endpoint: EndpointAddress) {
        state.withLock { state in
            stalled.bitwiseAnd(~endpoint.bit, ordering: .relaxed)
            state.stalls[endpoint.index].clear()
        }
    }

    private func failed(_ endpoint: EndpointAddress, _ status: URBStatus) {
        let now = clock.now()
        judge { state in
            switch status {
            case .stall:
                stalled.bitwiseOr(endpoint.bit, ordering: .relaxed)
                let limit = endpoint.number == 0 ? limits.controlStalls : limits.stalls
                guard state.stalls[endpoint.index].add(at: now, limit) else { return nil }
                return .stalls(state.stalls[endpoint.index].count, within: limit.window, on: endpoint)
            case .babble:
                guard state.babble.add(at: now, limits.babble) else { return nil }
                return .babble(state.babble.count, within: limits.babble.window, on: endpoint)
            default:
                guard state.protocolErrors.add(at: now, limits.protocolErrors) else { return nil }
                let window = limits.protocolErrors.window
                return .protocolErrors(state.protocolErrors.count, within: window, on: endpoint)
            }
        }
    }

    /// Tells what `look` finds, unless something was found before.
    private func judge(_ look: (inout State) -> Misbehaviour?) {
        let verdict: Misbehaviour? = state.withLock { state in
            guard state.verdict == nil else { return nil }
            state.verdict = look(&state)
            return state.verdict
        }
        if let verdict { onMisbehaviour(verdict) }
    }
}

extension EndpointAddress {
    fileprivate var bit: UInt32 { 1 << UInt32(index) }
}
