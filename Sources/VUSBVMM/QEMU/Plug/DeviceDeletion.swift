// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Synchronization
internal import VUSBCore

/// The end of one of QEMU's devices, awaited by one caller; it may come before that.
///
/// Concurrency model: any thread. The state is in one `Mutex`, a leaf; whoever settles it first resumes the
/// continuation, outside of it.
final class DeviceDeletion: Sendable {
    private typealias Outcome = Result<Void, USBError>

    private enum State {
        case idle
        case waiting(CheckedContinuation<Outcome, Never>)
        case settled(Outcome)
    }

    /// Its id.
    let device: String
    private let state = Mutex(State.idle)

    init(of device: String) { self.device = device }

    /// The device that an event tells the end of; nil in all other events, and of devices without an id.
    static func device(in event: QMPEvent) -> String? {
        event.name == "DEVICE_DELETED" ? event.data["device"]?.string : nil
    }

    /// - Parameter error: nil where the device is gone.
    func settle(_ error: USBError?) {
        let outcome = error.map { Outcome.failure($0) } ?? .success(())
        let waiter = state.withLock { state -> CheckedContinuation<Outcome, Never>? in
            if case .settled = state { return nil }
            defer { state = .settled(outcome) }
            if case .waiting(let continuation) = state { return continuation }
            return nil
        }
        waiter?.resume(returning: outcome)
    }

    /// Called once.
    /// - Throws: `timedOut`, `cancelled`; `gone` where the connection to QEMU is lost.
    func wait(within limit: Duration) async throws(USBError) {
        let outcome = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                register(continuation)
                expire(after: limit)
            }
        } onCancel: {
            settle(USBError(.cancelled, "cancelled while waiting for the end of device \(device)"))
        }
        try outcome.get()
    }

    private func register(_ continuation: CheckedContinuation<Outcome, Never>) {
        let outcome = state.withLock { state -> Outcome? in
            if case .settled(let outcome) = state { return outcome }
            state = .waiting(continuation)
            return nil
        }
        if let outcome { continuation.resume(returning: outcome) }
    }

    private func expire(after limit: Duration) {
        DispatchQueue.global().asyncAfter(deadline: .now() + limit.dispatchInterval) { [weak self, device] in
            self?.settle(USBError(.timedOut, "device \(device) wasn't deleted within \(limit)"))
        }
    }
}
