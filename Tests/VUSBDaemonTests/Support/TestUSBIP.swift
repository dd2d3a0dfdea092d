// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBIP

@testable import VUSBDaemon

/// Listeners that nobody connects to, and devices that a test imports.
final class TestUSBIP: USBIPServing {
    private struct State {
        var listeners: [TestListener] = []
        var exports: [TestExport] = []
        var error: USBError?
    }

    private let state = Mutex(State())
    private let stream: AsyncStream<USBIPEvent>
    private let continuation: AsyncStream<USBIPEvent>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream(of: USBIPEvent.self) }

    var listeners: [TestListener] { state.withLock { $0.listeners } }
    /// Where one can connect now.
    var addresses: [String] { listeners.filter { !$0.isOver }.map(\.text) }
    var exports: [TestExport] { state.withLock { $0.exports } }
    var offered: [USBIPPlace] { exports.filter { $0.status.state != .withdrawn }.map(\.place) }

    func fail(_ error: USBError?) { state.withLock { $0.error = error } }
    func tell(_ event: USBIPEvent) { continuation.yield(event) }

    /// The session of a device ends, and the front tells.
    func end(_ export: TestExport, _ end: USBIPEnd = .closed) {
        export.change { $0.state = .resting }
        tell(.ended(export.place, peer: "test", end, unfinished: 0))
    }

    func serve(_ definition: USBIPListenerDefinition) throws(USBError) -> any USBIPListening {
        if let error = state.withLock({ $0.error }) { throw error }
        let listener = TestListener(definition)
        state.withLock { $0.listeners.append(listener) }
        return listener
    }

    func offer(_ device: VirtualDevice, at place: USBIPPlace) throws(USBError) -> any USBIPExported {
        let export = TestExport(place)
        state.withLock { $0.exports.append(export) }
        return export
    }

    func events() -> AsyncStream<USBIPEvent> { stream }

    func obstacle(at endpoint: USBIPListenerDefinition.Endpoint) -> USBError? { state.withLock { $0.error } }
}

final class TestListener: USBIPListening {
    let definition: USBIPListenerDefinition
    private let over = Mutex(false)

    init(_ definition: USBIPListenerDefinition) { self.definition = definition }

    var port: UInt16? { nil }
    var text: String { definition.endpoint.description }
    var isOver: Bool { over.withLock { $0 } }
    func end() async { over.withLock { $0 = true } }
}

final class TestExport: USBIPExported {
    let place: USBIPPlace
    private let state = Mutex((status: USBIPStatus(state: .free), journal: [String]()))

    init(_ place: USBIPPlace) { self.place = place }

    var status: USBIPStatus { state.withLock { $0.status } }
    var journal: [String] { state.withLock { $0.journal } }
    func change(_ body: (inout USBIPStatus) -> Void) { state.withLock { body(&$0.status) } }
    func quiet() { note("quiet") }
    func resume() { note("resume") }

    func readmit() {
        note("readmit")
        change { $0.state = .free }
    }

    func end() async {
        note("end")
        change { $0.state = .withdrawn }
    }

    private func note(_ text: String) { state.withLock { $0.journal.append(text) } }
}
