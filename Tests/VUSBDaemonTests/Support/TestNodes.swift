// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCharDevice
import VUSBCore

@testable import VUSBDaemon

/// Character nodes that nobody could open.
final class TestNodes: NodeServing {
    private struct State {
        var ports: [TestNodePort] = []
        var obstacle: USBError?
        var openError: USBError?
        var told: [String] = []
        var majors: [String: Int] = [:]
    }

    private let state = Mutex(State())
    private let stream: AsyncStream<CharDeviceEvent>
    private let continuation: AsyncStream<CharDeviceEvent>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream(of: CharDeviceEvent.self) }

    /// All that were ever made.
    var ports: [TestNodePort] { state.withLock { $0.ports } }
    /// What was said, and in whose network: `PROCESS ACTION PATH`.
    var told: [String] { state.withLock { $0.told } }
    var obstacle: USBError? { state.withLock { $0.obstacle } }

    func obstruct(_ error: USBError?) { state.withLock { $0.obstacle = error } }
    func fail(_ error: USBError?) { state.withLock { $0.openError = error } }
    func lose(_ path: String, of guest: String) {
        continuation.yield(CharDeviceEvent(guest: guest, path: path, kind: .lost))
    }

    func major(of guest: String) throws(USBError) -> Int? { state.withLock { $0.majors[guest, default: 240] } }
    func restore(_ major: Int, of guest: String) -> Bool {
        state.withLock { $0.majors[guest] = major }
        return true
    }
    func forget(_ guest: String) { state.withLock { $0.majors[guest] = nil } }

    func serve(_ slot: GuestSlot, of guest: String, device: VirtualDevice) throws(USBError) -> any NodePort {
        if let error = state.withLock({ $0.openError }) { throw error }
        guard let number = CharacterDeviceNumber(major: 240, minor: slot.minor) else {
            throw USBError(.io, "no numbers left")
        }
        let port = TestNodePort(number)
        state.withLock { $0.ports.append(port) }
        return port
    }

    func events() -> AsyncStream<CharDeviceEvent> { stream }

    func teller(inNetworkOf process: Int) throws(USBError) -> (any UeventTelling)? {
        TestTeller { event in self.state.withLock { $0.told.append("\(event.action.rawValue) \(event.devicePath)") } }
    }
}

private struct TestTeller: UeventTelling {
    let note: @Sendable (Uevent) -> Void

    func send(_ events: [Uevent]) throws(USBError) { for event in events { note(event) } }
}

final class TestNodePort: NodePort {
    private struct State {
        var status = CharDeviceStatus(openers: [], bytes: 0, idle: nil)
        var journal: [String] = []
    }

    let number: CharacterDeviceNumber
    private let state = Mutex(State())

    init(_ number: CharacterDeviceNumber) { self.number = number }

    var status: CharDeviceStatus { state.withLock { $0.status } }
    /// What the control plane did with it.
    var journal: [String] { state.withLock { $0.journal } }

    /// A program has claimed its interface 0, or has closed it.
    func use(by process: Int32?) {
        state.withLock { state in
            state.status.openers =
                process.map {
                    [CharDeviceStatus.Opener(process: $0, interfaces: [0], pending: 0, unreaped: 0)]
                } ?? []
        }
    }

    func quiet() { state.withLock { $0.journal.append("quiet") } }
    func resume() { state.withLock { $0.journal.append("resume") } }
    func end() { state.withLock { $0.journal.append("end") } }
}
