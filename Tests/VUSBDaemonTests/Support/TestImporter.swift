// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBIP
import VUSBTestSupport

@testable import VUSBDaemon

/// Imports whose devices come and go by hand.
final class TestImporter: DeviceImporter {
    private struct State {
        var statuses: [DeviceID: USBIPImportStatus] = [:]
        /// How first tries have ended.
        var ends: [DeviceID: Result<Void, USBError>] = [:]
        var waiters: [DeviceID: CheckedContinuation<Result<Void, USBError>, Never>] = [:]
        var offers: Result<USBIPOfferList, USBError> = .success(USBIPOfferList())
        var asked: [USBIPServer] = []
    }

    private let state = Mutex(State())
    let devices = TestSource(name: "usbip")
    /// Tells whenever somebody waits for a first try.
    let waiting = Inbox<DeviceID>()

    var name: String { devices.name }

    func start() throws(USBError) -> AsyncStream<DeviceEvent> { try devices.start() }
    func stop() async { await devices.stop() }

    func open(_ record: DeviceRecord, isForced: Bool) async throws(USBError) -> OpenedDevice {
        try await devices.open(record, isForced: isForced)
    }

    func imports() -> [USBIPImportStatus] { state.withLock { $0.statuses.values.sorted { $0.id < $1.id } } }

    func add(_ remote: USBIPRemote, name: String?) throws(USBError) -> DeviceID {
        let id = DeviceID("ip-" + (name ?? Self.name(of: remote)))
        let isNew = state.withLock { state in
            guard state.statuses[id] == nil, !state.statuses.values.contains(where: { $0.remote == remote }) else {
                return false
            }
            state.statuses[id] = USBIPImportStatus(id: id, remote: remote, state: .connecting, attempts: 0)
            return true
        }
        guard isNew else { throw USBError(.busy, "it's imported already") }
        return id
    }

    private static func name(of remote: USBIPRemote) -> String {
        guard case .tcp(let host, _) = remote.server else { return remote.busID }
        return "\(host)-\(remote.busID)"
    }

    func firstTry(of id: DeviceID) async throws(USBError) {
        let end = await withCheckedContinuation { continuation in
            let end = state.withLock { state in
                if state.ends[id] == nil { state.waiters[id] = continuation }
                return state.ends[id]
            }
            if let end { continuation.resume(returning: end) }
            waiting.append(id)
        }
        try end.get()
    }

    func forget(_ id: DeviceID) async throws(USBError) {
        guard state.withLock({ $0.statuses.removeValue(forKey: id) }) != nil else {
            throw USBError(.notFound, "\(id) isn't imported")
        }
        end(id, .failure(USBError(.cancelled, "\(id) was forgotten")))
        state.withLock { $0.ends[id] = nil }
        try devices.pullOut(id)
    }

    func offers(of server: USBIPServer, within limit: Duration) async throws(USBError) -> USBIPOfferList {
        try state.withLock { state in
            state.asked.append(server)
            return state.offers
        }.get()
    }

    // MARK: - What tests do

    /// A try succeeds: the device is there.
    func connect(_ id: DeviceID, _ product: String) throws(USBError) {
        showImported(id)
        try arrive(id, product)
        end(id, .success(()))
    }

    /// A try succeeds; of its device the stream tells later.
    func succeed(_ id: DeviceID) {
        showImported(id)
        end(id, .success(()))
    }

    private func showImported(_ id: DeviceID) {
        change(id) {
            $0.state = .imported
            $0.attempts = 0
            $0.lastFailure = nil
        }
    }

    func arrive(_ id: DeviceID, _ product: String) throws(USBError) { _ = try devices.plugIn("\(id) \(product)") }

    /// A try succeeds, and what the device says of itself can't be believed.
    func refuse(_ id: DeviceID, reason: String) {
        devices.refuse(id, reason: reason)
        end(id, .success(()))
    }

    /// A try fails.
    func fail(_ id: DeviceID, with error: USBError) {
        change(id) {
            $0.state = .waiting(reason: error.message, next: .now + .seconds(1))
            $0.attempts += 1
            $0.lastFailure = error.message
        }
        end(id, .failure(error))
    }

    /// The session ends, and its device is gone.
    func lose(_ id: DeviceID, reason: String) throws(USBError) {
        change(id) {
            $0.state = .waiting(reason: reason, next: .now)
            $0.lastFailure = reason
        }
        try devices.pullOut(id)
    }

    /// Another try begins.
    func tryAgain(_ id: DeviceID) { change(id) { $0.state = .connecting } }

    func offer(_ offers: Result<USBIPOfferList, USBError>) { state.withLock { $0.offers = offers } }
    var asked: [USBIPServer] { state.withLock { $0.asked } }

    private func change(_ id: DeviceID, _ body: (inout USBIPImportStatus) -> Void) {
        state.withLock { state in
            guard var status = state.statuses[id] else { return }
            body(&status)
            state.statuses[id] = status
        }
    }

    /// Only the first end counts.
    private func end(_ id: DeviceID, _ result: Result<Void, USBError>) {
        let waiter = state.withLock { state in
            if state.ends[id] == nil { state.ends[id] = result }
            return state.waiters.removeValue(forKey: id)
        }
        waiter?.resume(returning: result)
    }
}
