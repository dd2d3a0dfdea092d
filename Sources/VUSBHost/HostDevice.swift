// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import VUSBCore

/// A device of the host's, opened through libusb.
///
/// Concurrency model: transfers go to the table on the submitter's thread and complete on libusb's. All that blocks
/// (configurations, alternate settings, halts, resets, streams, the end) is done one after the other on a thread of
/// this device's, so that a device that doesn't answer holds up nobody else. Transfers go that way, too, while one waits
/// there for its streams, so that they stay in order. `control` is written by that thread only; its `Mutex` is a leaf,
/// held across no call.
final class HostDevice: USBBackend {
    struct Control: Sendable {
        /// Nil once closed.
        var port: (any HandlePort)?
        var claim: HostClaim
        var configurationValue: UInt8
        var alternates: [InterfaceNumber: UInt8]
        /// Streams had, by the endpoint's index.
        var streams = [UInt16](repeating: 0, count: 32)
    }

    /// How long cancelled transfers may take to end; a working controller needs milliseconds.
    static let cancelLimit = Duration.seconds(5)

    let id: DeviceID
    let descriptors: Descriptors
    let table: TransferTable
    let thread: SerialThread
    let control: Mutex<Control>
    /// Transfers on their way through the thread.
    let waiting = Atomic<Int>(0)
    let logger: Logger
    /// Called once the transfers and the port are let go of.
    private let onClose: @Sendable () -> Void

    /// - Parameters:
    ///   - thread: this device's own; `close` ends it.
    ///   - onClose: frees what else holds the handle.
    init(
        id: DeviceID,
        descriptors: Descriptors,
        control: Control,
        table: TransferTable,
        thread: SerialThread,
        logger: Logger,
        onClose: @escaping @Sendable () -> Void
    ) {
        self.id = id
        self.descriptors = descriptors
        self.control = Mutex(control)
        self.table = table
        self.thread = thread
        self.logger = logger
        self.onClose = onClose
    }

    func submit(_ urb: consuming URB) {
        guard case .transfer = urb.operation else {
            submitBlocking(urb)
            return
        }
        let isDirect = waiting.load(ordering: .acquiring) == 0
        if isDirect, urb.streamID == 0 || hasStream(urb.streamID, urb.endpoint) { return table.submit(urb) }
        waiting.add(1, ordering: .relaxed)
        if !submitBlocking(urb) { waiting.subtract(1, ordering: .releasing) }
    }

    func cancel(_ token: URBToken) {
        // Looked at first: a transfer that leaves the thread between the two is in the table by then, or cancelled
        // behind it.
        let mayWait = waiting.load(ordering: .acquiring) > 0
        table.cancel(token)
        if mayWait { thread.enqueue { self.table.cancel(token) } }
    }

    func reset() async throws(USBError) {
        let result: Result<Void, USBError>? = await thread.run {
            do throws(USBError) {
                return .success(try self.resetNow())
            } catch {
                return .failure(error)
            }
        }
        guard let result else { throw USBError(.gone, "device \(id) is closed") }
        try result.get()
    }

    func close() async {
        // Nil only where it was closed before.
        _ = await thread.run { self.closeNow() }
        thread.stop()
        await thread.end()
    }

    private func hasStream(_ stream: UInt16, _ endpoint: EndpointAddress) -> Bool {
        control.withLock { $0.streams[endpoint.index] >= stream }
    }

    /// False where it has ended, since the device is closed.
    @discardableResult
    private func submitBlocking(_ urb: consuming URB) -> Bool {
        let parcel = Parcel(urb)
        let accepted = thread.enqueue {
            if let urb = parcel.open() { self.carryOut(urb) }
        }
        if !accepted { parcel.open()?.complete(.noDevice) }
        return accepted
    }

    private func closeNow() {
        let all = TransferTable.allEndpoints
        let isIdle = table.close(all, refusing: .noDevice, ending: .cancelled, limit: Self.cancelLimit)
        let control = control.withLock { control in
            defer { control.port = nil }
            return control
        }
        guard let port = control.port else { return }
        guard isIdle else {
            // libusb would crash on its own transfers: better a device that stays taken than a daemon that falls.
            logger.error("device \(id) doesn't end its transfers: it stays open until vusbd ends; unplug it")
            // SAFETY: never released, on purpose.
            _ = unsafe Unmanaged.passRetained(self)
            return
        }
        var claim = control.claim
        claim.giveBack(through: port, currentConfiguration: control.configurationValue)
        table.dispose()
        onClose()
    }
}

/// Carries one URB to another thread.
private final class Parcel: Sendable {
    private let content: Mutex<URB?>

    init(_ urb: consuming URB) { content = Mutex(urb) }

    /// Nil the second time.
    func open() -> URB? { content.withLock { $0.take() } }
}
