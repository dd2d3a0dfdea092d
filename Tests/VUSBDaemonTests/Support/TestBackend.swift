// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBTestSupport

/// A backend that keeps every URB until it's cancelled, reset or closed.
final class TestBackend: USBBackend {
    private struct State {
        var held: [ManualCompletion] = []
        var resets = 0
        var closes = 0
    }

    private let state = Mutex(State())
    let ignoresCancel: Bool
    let resetError: USBError?
    private let onClose: @Sendable () -> Void

    init(ignoresCancel: Bool = false, resetError: USBError? = nil, onClose: @escaping @Sendable () -> Void = {}) {
        self.ignoresCancel = ignoresCancel
        self.resetError = resetError
        self.onClose = onClose
    }

    var held: [ManualCompletion] { state.withLock { $0.held }.filter { !$0.isComplete } }
    var resets: Int { state.withLock { $0.resets } }
    var closes: Int { state.withLock { $0.closes } }

    func submit(_ urb: consuming URB) {
        let completion = ManualCompletion(urb)
        state.withLock { $0.held.append(completion) }
    }

    func cancel(_ token: URBToken) {
        guard !ignoresCancel else { return }
        for urb in held where urb.token == token { urb.complete(.cancelled) }
    }

    func reset() async throws(USBError) {
        state.withLock { $0.resets += 1 }
        for urb in held { urb.complete(.shutdown) }
        if let resetError { throw resetError }
    }

    func close() async {
        state.withLock { $0.closes += 1 }
        for urb in held { urb.complete(.noDevice) }
        onClose()
    }
}
