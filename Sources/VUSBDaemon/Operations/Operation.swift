// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// A long operation while it runs, and for a while after.
struct Operation: Sendable {
    enum Kind: String, Sendable { case load, unload, attach, detach, `switch`, request, focus, `import`, forget }

    var info: OperationInfo
    let began: ContinuousClock.Instant
    var task: Task<Void, Never>?
    /// False once there is no way back.
    var isCancellable = true
    var waiters: [Int: Waiter] = [:]

    struct Waiter: Sendable {
        /// Woken by a step beyond this many; nil waits for the end.
        var afterSteps: Int?
        var continuation: CheckedContinuation<Void, Never>
    }

    var hasEnded: Bool { info.state != .running }

    /// Whether whoever waits like this has what they wait for.
    func satisfies(afterSteps: Int?) -> Bool {
        hasEnded || afterSteps.map { info.steps.count > $0 } ?? false
    }
}
