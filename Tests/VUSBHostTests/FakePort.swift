// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Logging
import Synchronization
import VUSBCore

@testable import VUSBHost

extension HostDevice {
    /// A device that is opened and in its configuration 1.
    convenience init(
        _ descriptors: Descriptors, port: any HandlePort, claim: HostClaim, table: TransferTable,
        limits: Limits = Limits()
    ) throws {
        self.init(
            id: DeviceID("1-1"),
            descriptors: descriptors,
            control: Control(port: port, claim: claim, configurationValue: 1, alternates: [:]),
            table: table,
            thread: try SerialThread(name: "test"),
            limits: limits,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        ) {}
    }
}

/// Plays libusb's handle: keeps what was asked of it, answers as the test says.
final class FakePort: HandlePort {
    struct State {
        var calls: [String] = []
        /// By the call as it is written down; 0 where nothing is given.
        var codes: [String: Int32] = [:]
        var descriptors: [UInt8: [UInt8]] = [:]
        /// Calls that don't return before these are posted.
        var gates: [String: Semaphore] = [:]
    }

    let state = Mutex(State())
    var calls: [String] { state.withLock { $0.calls } }

    func answer(_ call: String, _ code: Int32) { state.withLock { $0.codes[call] = code } }

    /// The next such call doesn't return before `gate` is posted.
    func hold(_ call: String, until gate: Semaphore) { state.withLock { $0.gates[call] = gate } }

    private func record(_ call: String) -> Int32 {
        let (code, gate) = state.withLock { state in
            state.calls.append(call)
            return (state.codes[call] ?? 0, state.gates.removeValue(forKey: call))
        }
        gate?.wait()
        return code
    }

    func claim(_ interface: UInt8) -> Int32 { record("claim \(interface)") }
    func release(_ interface: UInt8) -> Int32 { record("release \(interface)") }
    func attachDriver(_ interface: UInt8) -> Int32 { record("attach \(interface)") }
    func setConfiguration(_ value: Int32) -> Int32 { record("configuration \(value)") }
    func setAlternate(_ interface: UInt8, _ alternate: UInt8) -> Int32 { record("alternate \(interface) \(alternate)") }
    func clearHalt(_ endpoint: UInt8) -> Int32 { record("halt \(endpoint)") }
    func reset() -> Int32 { record("reset") }
    func descriptor(_ type: UInt8, _ index: UInt8, length: UInt16) -> [UInt8]? {
        state.withLock { $0.descriptors[type] }
    }
    func allocateStreams(_ count: UInt32, _ endpoints: [UInt8]) -> Int32 { record("streams \(count) \(endpoints)") }
}
