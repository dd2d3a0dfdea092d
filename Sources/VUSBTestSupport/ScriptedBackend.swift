// SPDX-License-Identifier: Apache-2.0

import Synchronization
package import VUSBCore

/// A backend that plays a script: each call must be the next record's, and is answered as that says. What doesn't
/// fit, and what is left of the script at the end, is a failure that `verify` lists.
///
///     let backend = ScriptedBackend([
///         .submit(.out(0x02, [1, 2, 3]), .complete()),
///         .submit(.in(0x81, 512), .hold),
///         .cancel(.completeAsCancelled),
///     ])
///     ...
///     #expect(backend.verify() == [])
///
/// Concurrency model: any thread may call anything. All state is in one `Mutex`, which is left before a URB is
/// completed or a waiter resumed. Lock order: this one, then that of a `ManualCompletion`.
package final class ScriptedBackend: USBBackend {
    private struct State {
        var script: [Record]
        var held: [ManualCompletion] = []
        var failures: [String] = []
        var isClosed = false
    }

    private let state: Mutex<State>
    /// What is done with calls that are beyond the script; nil makes them failures.
    private let beyondScript: Answer?
    /// All calls, in the order in which they came.
    package let calls = Inbox<Call>()

    package init(_ script: [Record] = []) {
        state = Mutex(State(script: script))
        beyondScript = nil
    }

    /// Plays no script: any submit is answered with `answer`, any cancel completes what is held as cancelled.
    package init(always answer: Answer) {
        state = Mutex(State(script: []))
        beyondScript = answer
    }

    // MARK: - USBBackend

    package func submit(_ urb: consuming URB) {
        let held = ManualCompletion(urb)
        let call = Call.submit(held.token, Submit(held))
        let answer = state.withLock { state in
            guard !state.isClosed else {
                state.failures.append("submit after close: \(Submit(held))")
                return Answer.complete(.noDevice)
            }
            let answer = next(&state, call)
            switch answer {
            case .complete: break
            case .hold, .run:
                // Long runs: what is complete isn't kept for ever.
                if state.held.count >= 64 { state.held.removeAll(where: \.isComplete) }
                state.held.append(held)
            }
            return answer
        }
        calls.append(call)
        switch answer {
        case .hold: break
        case .complete(let status, let data, let length):
            held.complete(status, data: data, actualLength: length)
        case .run(let body): body(held)
        }
    }

    package func cancel(_ token: URBToken) {
        let target = state.withLock { state -> ManualCompletion? in
            if state.isClosed { state.failures.append("cancel after close") }
            guard case .ignore = nextCancel(&state) else {
                // One that was given back, and came again, is there twice.
                return state.held.first { $0.token == token && !$0.isComplete }
            }
            return nil
        }
        calls.append(.cancel(token))
        target?.complete(.cancelled)
    }

    package func reset() async throws(USBError) {
        let error = state.withLock { state -> USBError? in
            if state.isClosed { state.failures.append("reset after close") }
            if state.script.isEmpty && beyondScript != nil { return nil }
            guard case .reset(let error)? = state.script.first else {
                state.failures.append("unexpected reset, \(expected(state))")
                return nil
            }
            state.script.removeFirst()
            return error
        }
        calls.append(.reset)
        for urb in takeHeld() { urb.complete(.shutdown) }
        if let error { throw error }
    }

    package func close() async {
        state.withLock { state in
            if state.isClosed { state.failures.append("closed twice") }
            state.isClosed = true
        }
        calls.append(.close)
        for urb in takeHeld() { urb.complete(.cancelled) }
    }

    // MARK: - For the test

    /// What went wrong; with it, what of the script wasn't called for. Empty is what a test wants.
    package func verify() -> [String] {
        state.withLock { state in
            state.failures + state.script.map { "never called: \($0.description)" }
        }
    }

    /// URBs that are held and not complete, in the order in which they came.
    package var held: [ManualCompletion] { state.withLock { $0.held }.filter { !$0.isComplete } }

    package var isClosed: Bool { state.withLock { $0.isClosed } }

    /// Completes the oldest that is held; false where none is.
    @discardableResult
    package func completeNext(_ status: URBStatus = .success, data: [UInt8] = []) -> Bool {
        guard let first = held.first else { return false }
        return first.complete(status, data: data)
    }

    /// As a source does at an unplug: all that is held ends with `status`.
    package func completeAll(_ status: URBStatus = .noDevice) {
        for urb in takeHeld() { urb.complete(status) }
    }

    // MARK: - Playing

    private func takeHeld() -> [ManualCompletion] {
        state.withLock { state in
            defer { state.held = [] }
            return state.held
        }
    }

    private func next(_ state: inout State, _ call: Call) -> Answer {
        if state.script.isEmpty, let beyondScript { return beyondScript }
        guard case .submit(_, let actual) = call, case .submit(let wanted, let answer)? = state.script.first else {
            state.failures.append("unexpected \(call), \(expected(state))")
            return .complete(.io)
        }
        state.script.removeFirst()
        guard wanted.matches(actual) else {
            state.failures.append("expected \(wanted), got \(actual)")
            return .complete(.io)
        }
        return answer
    }

    private func nextCancel(_ state: inout State) -> CancelAnswer {
        if state.script.isEmpty && beyondScript != nil { return .completeAsCancelled }
        guard case .cancel(let answer)? = state.script.first else {
            state.failures.append("unexpected cancel, \(expected(state))")
            return .completeAsCancelled
        }
        state.script.removeFirst()
        return answer
    }

    private func expected(_ state: State) -> String {
        state.script.first.map { "expected \($0.description)" } ?? "the script is over"
    }
}
