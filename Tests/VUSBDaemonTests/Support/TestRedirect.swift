// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBRedir

@testable import VUSBDaemon

/// Sockets at which devices would wait for machines.
final class TestRedirect: RedirectServing {
    private struct State {
        var ports: [TestRedirectPort] = []
        var openError: USBError?
        /// How the machine's side is as soon as it was plugged in.
        var firstState = RedirStatus.State.connected
    }

    private let state = Mutex(State())
    private let stream: AsyncStream<RedirEvent>
    private let continuation: AsyncStream<RedirEvent>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream(of: RedirEvent.self) }

    /// All that were ever made.
    var ports: [TestRedirectPort] { state.withLock { $0.ports } }
    var open: [TestRedirectPort] { ports.filter { !$0.isEnded } }

    func fail(_ error: USBError?) { state.withLock { $0.openError = error } }
    func begin(with first: RedirStatus.State) { state.withLock { $0.firstState = first } }
    func tell(_ kind: RedirEvent.Kind, _ guest: String, _ path: String) {
        continuation.yield(RedirEvent(guest: guest, path: path, kind: kind))
    }

    func serve(
        path: String, of guest: String, device: VirtualDevice, owner: UInt32
    ) throws(USBError) -> any RedirectPort {
        let (error, first) = state.withLock { ($0.openError, $0.firstState) }
        if let error { throw error }
        let port = TestRedirectPort("/run/redirect/\(guest)-\(path)", first)
        state.withLock { $0.ports.append(port) }
        return port
    }

    func events() -> AsyncStream<RedirEvent> { stream }
}

final class TestRedirectPort: RedirectPort {
    struct State: Sendable {
        var status: RedirStatus
        var isOver = false
        var journal: [String] = []
    }

    let socketPath: String
    let state: Mutex<State>

    init(_ path: String, _ first: RedirStatus.State) {
        socketPath = path
        state = Mutex(State(status: RedirStatus(state: first)))
    }

    var status: RedirStatus { state.withLock { $0.status } }
    var isOver: Bool { state.withLock { $0.isOver || $0.status.state == .closed } }
    /// The control plane has ended it.
    var isEnded: Bool { state.withLock { $0.isOver } }
    /// What the control plane did with it.
    var journal: [String] { state.withLock { $0.journal } }

    func change(_ body: (inout RedirStatus) -> Void) { state.withLock { body(&$0.status) } }
    func waitForHello(within limit: Duration) async -> RedirStatus { status }
    func quiet() { state.withLock { $0.journal.append("quiet") } }
    func resume() { state.withLock { $0.journal.append("resume") } }

    func end() {
        state.withLock { state in
            if !state.isOver { state.journal.append("end") }
            state.isOver = true
            state.status.state = .closed
        }
    }
}
