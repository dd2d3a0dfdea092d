// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBSystem

/// A thread that runs one function and ends with it.
///
/// Concurrency model: whoever has it may wait for its end; the state is in one `Mutex`, a leaf.
final class HostThread: Sendable {
    private struct State {
        var ended = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())
    /// Deep enough for libusb and a sysfs scan; the default of 8 MiB would only be reserved.
    private static let stackSize = 512 << 10

    /// - Parameter name: at most 15 bytes, as the kernel shows it.
    /// - Throws: `io` where the system has no thread to give.
    init(name: String, body: @escaping @Sendable () -> Void) throws(USBError) {
        let code = DetachedThread.start(name: name, stackSize: Self.stackSize) { [self] in
            body()
            ended()
        }
        guard code == 0 else {
            throw USBError(
                .io,
                "no thread for \(name): \(SystemError(code: code))",
                remedy: "raise the limit of tasks (TasksMax=, ulimit -u)"
            )
        }
    }

    private func ended() {
        let waiters = state.withLock { state in
            state.ended = true
            defer { state.waiters.removeAll() }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Returns when the thread's function has returned.
    func end() async {
        await withCheckedContinuation { continuation in
            let ended = state.withLock { state in
                if !state.ended { state.waiters.append(continuation) }
                return state.ended
            }
            if ended { continuation.resume() }
        }
    }
}
