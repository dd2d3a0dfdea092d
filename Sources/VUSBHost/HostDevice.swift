// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import VUSBCore

/// A device of the host's, opened through libusb.
///
/// Concurrency model: transfers go to the table on the submitter's thread and complete on libusb's. All that blocks
/// (configurations, alternate settings, halts, resets, streams, the end) is done one after the other on a thread of
/// this device's, so that a device that doesn't answer holds up nobody else. So are cancels: the kernel may wait for
/// the controller then. Transfers go that way, too, while something is to be done there: they stay in order, and their
/// submitter doesn't wait for the kernel's lock of the device. `control` is written by that thread only; its `Mutex`
/// is a leaf, held across no call.
final class HostDevice: USBBackend {
    struct Control: Sendable {
        /// Nil once closed.
        var port: (any HandlePort)?
        var claim: HostClaim
        var configurationValue: UInt8
        var alternates: [InterfaceNumber: UInt8]
        /// Streams had, by the endpoint's index.
        var streams = [UInt16](repeating: 0, count: 32)
        /// How often the endpoint was set anew, by its index.
        var settings = [UInt32](repeating: 0, count: 32)
    }

    /// How long what a device is asked for may take.
    struct Limits: Sendable {
        /// Cancelled transfers, until they have ended; a working controller needs milliseconds.
        var cancel = Duration.seconds(5)
        /// A reset. The kernel gives a device some tries of 5 seconds each.
        var reset = Duration.seconds(60)
        /// The end, with whatever is done to the device just then.
        var close = Duration.seconds(30)
    }

    let id: DeviceID
    let descriptors: Descriptors
    let table: TransferTable
    let thread: SerialThread
    let control: Mutex<Control>
    /// Submits and cancels on their way through the thread.
    let waiting = Atomic<Int>(0)
    let limits: Limits
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
        limits: Limits = Limits(),
        logger: Logger,
        onClose: @escaping @Sendable () -> Void
    ) {
        self.id = id
        self.descriptors = descriptors
        self.control = Mutex(control)
        self.table = table
        self.thread = thread
        self.limits = limits
        self.logger = logger
        self.onClose = onClose
    }

    func submit(_ urb: consuming URB) {
        guard case .transfer = urb.operation else { return submitOnThread(urb) }
        let isDirect = waiting.load(ordering: .acquiring) == 0
        if isDirect, urb.streamID == 0 || hasStream(urb.streamID, urb.endpoint) { return table.submit(urb) }
        submitOnThread(urb)
    }

    func cancel(_ token: URBToken) {
        waiting.add(1, ordering: .relaxed)
        let accepted = thread.enqueue {
            self.table.cancel(token)
            self.waiting.subtract(1, ordering: .releasing)
        }
        // Else it is closed, and all has been cancelled.
        if !accepted { waiting.subtract(1, ordering: .releasing) }
    }

    func reset() async throws(USBError) {
        let outcome: SerialThread.Outcome<Result<Void, USBError>> = await thread.run(within: limits.reset) {
            do throws(USBError) {
                return .success(try self.resetNow())
            } catch {
                return .failure(error)
            }
        }
        switch outcome {
        case .returned(let result): try result.get()
        case .stopped: throw USBError(.gone, "device \(id) is closed")
        case .late:
            throw USBError(.timedOut, "device \(id): its reset takes longer than \(limits.reset)", remedy: "unplug it")
        }
    }

    func close() async {
        let outcome = await thread.run(within: limits.close) { self.closeNow() }
        thread.stop()
        guard case .late = outcome else { return await thread.end() }
        // Its thread keeps all that libusb still works with, and closes when it's back.
        logger.error("device \(id) is held up inside the kernel: it stays taken until that gives way; unplug it")
    }

    private func hasStream(_ stream: UInt16, _ endpoint: EndpointAddress) -> Bool {
        control.withLock { $0.streams[endpoint.index] >= stream }
    }

    private func submitOnThread(_ urb: consuming URB) {
        waiting.add(1, ordering: .relaxed)
        let setting = settingCount(urb.endpoint)
        let parcel = Parcel(urb)
        let accepted = thread.enqueue {
            if let urb = parcel.open() { self.carryOut(urb, setting: setting) }
        }
        guard !accepted else { return }
        waiting.subtract(1, ordering: .releasing)
        parcel.open()?.complete(.noDevice)
    }

    /// How often the endpoint was set anew: what was submitted before isn't for what it is now.
    func settingCount(_ endpoint: EndpointAddress) -> UInt32 { control.withLock { $0.settings[endpoint.index] } }

    private func closeNow() {
        let all = TransferTable.allEndpoints
        let isIdle = table.close(all, refusing: .noDevice, ending: .cancelled, limit: limits.cancel)
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
