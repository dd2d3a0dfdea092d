// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

/// A source whose devices come and go by hand. A specification is `ID VID:PID [SERIAL]`; with the product ID a4ac it's a
/// keyboard.
final class TestSource: DeviceEmulator {
    private struct State {
        var records: [DeviceID: DeviceRecord] = [:]
        var open: [DeviceID: TestBackend] = [:]
        var closed: [TestBackend] = []
        var failures: [DeviceID: USBError] = [:]
        /// Fail once, and not again.
        var singleFailures: [DeviceID: USBError] = [:]
        var heldOpens: Set<DeviceID> = []
        var waiting: [DeviceID: CheckedContinuation<Void, Never>] = [:]
        var resetErrors: [DeviceID: USBError] = [:]
        var ignoresCancel = false
        var doubleOpens = 0

        mutating func takeFailure(of id: DeviceID) -> USBError? {
            singleFailures.removeValue(forKey: id) ?? failures[id]
        }
    }

    let name: String
    private let state = Mutex(State())
    private let stream: AsyncStream<DeviceEvent>
    private let events: AsyncStream<DeviceEvent>.Continuation
    /// Tells whenever an open that is held back has begun.
    let heldOpens = Inbox<DeviceID>()

    init(name: String = "test") {
        self.name = name
        (stream, events) = AsyncStream.makeStream(of: DeviceEvent.self)
    }

    func start() throws(USBError) -> AsyncStream<DeviceEvent> { stream }
    func stop() async { events.finish() }

    func open(_ record: DeviceRecord, isForced: Bool) async throws(USBError) -> OpenedDevice {
        let id = record.id
        if state.withLock({ $0.heldOpens.contains(id) }) {
            await withCheckedContinuation { continuation in
                state.withLock { $0.waiting[id] = continuation }
                heldOpens.append(id)
            }
        }
        if let failure = state.withLock({ $0.takeFailure(of: id) }) { throw failure }
        guard state.withLock({ $0.records[id] != nil }) else { throw USBError(.gone, "\(id) is gone") }
        let (resetError, ignoresCancel) = state.withLock { ($0.resetErrors[id], $0.ignoresCancel) }
        let backend = TestBackend(ignoresCancel: ignoresCancel, resetError: resetError) { [weak self] in
            self?.closed(id)
        }
        state.withLock { state in
            if state.open[id] != nil { state.doubleOpens += 1 }
            state.open[id] = backend
        }
        return OpenedDevice(backend: backend, configurationValue: 1)
    }

    private func closed(_ id: DeviceID) {
        state.withLock { state in
            if let backend = state.open.removeValue(forKey: id) { state.closed.append(backend) }
        }
    }

    // MARK: - What tests do

    func plugIn(_ specification: String) throws(USBError) -> [DeviceRecord] {
        let words = specification.split(separator: " ").map(String.init)
        let numbers = words.count > 1 ? words[1].split(separator: ":").compactMap { UInt16($0, radix: 16) } : []
        guard numbers.count == 2 else { throw USBError(.invalid, "no such kind", remedy: "give ID VID:PID") }
        var record = Self.record(words[0], numbers[0], numbers[1], serial: words.count > 2 ? words[2] : nil)
        record.source = name
        state.withLock { $0.records[record.id] = record }
        events.yield(.arrived(record))
        return [record]
    }

    func image(of specification: String) throws(USBError) -> String? {
        specification.hasPrefix("disk=") ? String(specification.dropFirst(5)) : nil
    }

    func pullOut(_ id: DeviceID) throws(USBError) {
        state.withLock { $0.records[id] = nil }
        events.yield(.left(id))
    }

    func type(_ text: String, on id: DeviceID) throws(USBError) {
        throw USBError(.unsupported, "\(id) is no keyboard")
    }

    func press(_ keys: [String], on id: DeviceID) throws(USBError) {
        throw USBError(.unsupported, "\(id) is no keyboard")
    }

    func refuse(_ id: DeviceID, reason: String) { events.yield(.refused(id, reason: reason)) }
    func fail(_ id: DeviceID, with error: USBError?) { state.withLock { $0.failures[id] = error } }
    func failOnce(_ id: DeviceID, with error: USBError) { state.withLock { $0.singleFailures[id] = error } }
    func failReset(_ id: DeviceID, with error: USBError) { state.withLock { $0.resetErrors[id] = error } }
    func ignoreCancels() { state.withLock { $0.ignoresCancel = true } }
    func holdOpen(_ id: DeviceID) { state.withLock { _ = $0.heldOpens.insert(id) } }

    func letOpen(_ id: DeviceID) {
        let waiter = state.withLock { state in
            state.heldOpens.remove(id)
            return state.waiting.removeValue(forKey: id)
        }
        waiter?.resume()
    }

    func backend(_ id: DeviceID) -> TestBackend? { state.withLock { $0.open[id] } }
    var openDevices: [DeviceID] { state.withLock { $0.open.keys.sorted() } }
    var closedBackends: [TestBackend] { state.withLock { $0.closed } }
    var doubleOpens: Int { state.withLock { $0.doubleOpens } }

    static func record(_ id: String, _ vendor: UInt16, _ product: UInt16, serial: String? = nil) -> DeviceRecord {
        let bytes =
            DescriptorBytes.device(vendor: vendor, product: product)
            + DescriptorBytes.configuration([
                DescriptorBytes.interface(0, endpoints: 2), DescriptorBytes.endpoint(0x81),
                DescriptorBytes.endpoint(0x02),
            ])
        // The bytes are constant but for the two numbers.
        guard let descriptors = try? Descriptors(parsing: product == 0xa4ac ? SampleDevice.keyboardBytes : bytes) else {
            fatalError("wrong bytes")
        }
        return DeviceRecord(id: DeviceID(id), source: "test", speed: .high, descriptors: descriptors, serial: serial)
    }
}
