// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What a fuzzer has below a `VirtualDevice`: ends what is submitted at once, or keeps it until it's told to end it.
///
/// Concurrency model: the fuzzer's one thread; the `Mutex` is for the compiler.
package final class FuzzBackend: USBBackend {
    private struct State {
        var held: [HeldURB] = []
        var isHolding: Bool
        var submitted = 0
        var completed = 0
    }

    private let state: Mutex<State>

    package init(isHolding: Bool) { state = Mutex(State(isHolding: isHolding)) }

    /// Whether all that was submitted has ended.
    package var isBalanced: Bool { state.withLock { $0.submitted == $0.completed } }
    package var isHolding: Bool {
        get { state.withLock { $0.isHolding } }
        set { state.withLock { $0.isHolding = newValue } }
    }

    package func submit(_ urb: consuming URB) {
        let item = HeldURB(urb)
        let isKept = state.withLock { state in
            state.submitted += 1
            // A stream that is answered at once asks again at once: only so often.
            let isKept = state.isHolding || state.submitted % 4 == 0
            if isKept { state.held.append(item) }
            return isKept
        }
        if !isKept { complete(item, .success, length: 7) }
    }

    package func cancel(_ token: URBToken) {
        let item = state.withLock { state in
            state.held.firstIndex { $0.token == token }.map { state.held.remove(at: $0) }
        }
        if let item { complete(item, .cancelled, length: 1) }
    }

    package func reset() async throws(USBError) {}
    package func close() async {}

    /// Ends the oldest, or the newest; false where there is none.
    /// - Parameter choice: bits 0 to 2 say how, 3 which, 4 to 7 with how much data.
    @discardableResult
    package func completeOne(_ choice: UInt8) -> Bool {
        let item = state.withLock { state -> HeldURB? in
            guard !state.held.isEmpty else { return nil }
            return choice & 8 == 0 ? state.held.removeFirst() : state.held.removeLast()
        }
        guard let item else { return false }
        let statuses: [URBStatus] = [.success, .stall, .io, .partial, .cancelled, .babble, .success, .noDevice]
        complete(item, statuses[Int(choice & 7)], length: Int(choice >> 4))
        return true
    }

    /// - Parameter length: in sixteenths, less one.
    private func complete(_ item: HeldURB, _ status: URBStatus, length: Int) {
        guard var urb = item.take() else { return }
        state.withLock { $0.completed += 1 }
        for index in 0..<urb.packetCount {
            guard var packet = urb.packet(at: index) else { continue }
            packet.actualLength = packet.length / UInt32(index % 3 + 1)
            urb.packets?[index] = packet
        }
        let count = urb.requestedLength * (length + 1) / 16
        urb.complete(status, actualLength: count)
    }
}
