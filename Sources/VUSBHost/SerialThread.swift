// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore

/// Carries out jobs one after the other on a thread of its own: for calls that block.
///
/// Concurrency model: any thread gives it jobs; the queue is in one `Mutex`, held across no job. It ends when told to,
/// after the jobs that it was given before; `stop` must be called, or the thread stays.
final class SerialThread: Sendable {
    private final class Queue: Sendable {
        struct State {
            var jobs: [@Sendable () -> Void] = []
            var isStopped = false
        }

        let state = Mutex(State())
        let available = Semaphore()

        func run() {
            while true {
                available.wait()
                let (job, isDone) = state.withLock { state in
                    state.jobs.isEmpty ? (nil, state.isStopped) : (state.jobs.removeFirst(), false)
                }
                job?()
                if isDone { return }
            }
        }
    }

    private let queue = Queue()
    private let thread: HostThread

    init(name: String) throws(USBError) {
        let queue = queue
        thread = try HostThread(name: name) { queue.run() }
    }

    /// False, and the job won't run, once stopped.
    @discardableResult
    func enqueue(_ job: @escaping @Sendable () -> Void) -> Bool {
        let accepted = queue.state.withLock { state in
            if !state.isStopped { state.jobs.append(job) }
            return !state.isStopped
        }
        if accepted { queue.available.post() }
        return accepted
    }

    /// Runs `body` there; nil once stopped.
    func run<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result? {
        await withCheckedContinuation { continuation in
            let accepted = enqueue { continuation.resume(returning: body()) }
            if !accepted { continuation.resume(returning: nil) }
        }
    }

    /// How `run(within:)` ended.
    enum Outcome<Result: Sendable>: Sendable {
        case returned(Result)
        case stopped
        /// It may be running yet, or run later.
        case late
    }

    /// Runs `body` there, and waits for it for `limit` at most, whether its task is cancelled or not.
    func run<Result: Sendable>(
        within limit: Duration, _ body: @escaping @Sendable () -> Result
    ) async -> Outcome<Result> {
        await withCheckedContinuation { continuation in
            let answer = FirstAnswer(continuation)
            let timer = Task {
                // Cancelled only once there is an answer, and then its own counts for nothing.
                try? await Task.sleep(for: limit)
                answer.give(.late)
            }
            let accepted = enqueue {
                answer.give(.returned(body()))
                timer.cancel()
            }
            guard !accepted else { return }
            answer.give(.stopped)
            timer.cancel()
        }
    }

    /// Takes no more jobs, and ends after those that it has.
    func stop() {
        queue.state.withLock { $0.isStopped = true }
        queue.available.post()
    }

    /// Returns when the thread has ended after `stop`.
    func end() async { await thread.end() }
}

/// Resumes a continuation with the first of several answers.
private final class FirstAnswer<Value: Sendable>: Sendable {
    private let waiter: Mutex<CheckedContinuation<Value, Never>?>

    init(_ waiter: CheckedContinuation<Value, Never>) { self.waiter = Mutex(waiter) }

    func give(_ value: Value) { waiter.withLock { $0.take() }?.resume(returning: value) }
}
