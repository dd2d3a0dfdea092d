// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore

/// A recycled transfer: holds a URB from its submit to its completion, and decides the races between them and cancels.
///
/// Concurrency model: the slot is in one `Mutex`, held across no call. Whoever is inside the carrier holds a pin: the
/// submitter, the completion to come, and each canceller. The last pin to go returns the transfer to its table, so a
/// late cancel can't meet the transfer's next URB, and a device with no pins has nobody inside libusb.
final class HostTransfer: Sendable {
    enum Phase {
        case idle
        case submitting
        /// To be cancelled by the submitter, once libusb has it.
        case submittingCancelled
        case inFlight
        case cancelling
        /// The URB has been taken out.
        case completed
    }

    private struct Slot: ~Copyable {
        var urb: URB?
        var token = URBToken.none
        var endpoint = EndpointAddress.control
        var phase = Phase.idle
        var pins = 0
        /// What it ends with where it is cancelled.
        var cancelled = URBStatus.cancelled
    }

    /// Whether it has room for isochronous packets.
    let isIsochronous: Bool
    private let carrier: any TransferCarrier
    // SAFETY: the table owns this transfer, and whoever holds a pin holds the table.
    private unowned let table: TransferTable
    private let slot = Mutex(Slot())

    init(carrier: any TransferCarrier, isIsochronous: Bool, table: TransferTable) {
        self.carrier = carrier
        self.isIsochronous = isIsochronous
        self.table = table
    }

    /// For a new URB: pins for its submitter and its completion. From here on cancels count.
    func reserve(_ token: URBToken, endpoint: EndpointAddress) {
        slot.withLock { slot in
            slot.token = token
            slot.endpoint = endpoint
            slot.phase = .submitting
            slot.pins = 2
            slot.cancelled = .cancelled
        }
    }

    /// Carries the URB out; after `reserve`. What can't be submitted completes with the reason.
    func submit(_ urb: consuming URB) {
        let refusal = carrier.prepare(urb, for: self)
        var moved: URB? = consume urb
        slot.withLock { $0.urb = moved.take() }
        if let refusal {
            fail(refusal)
        } else {
            let code = carrier.submit()
            if code == 0 { submitted() } else { fail(LibUSBCode.status(code)) }
        }
        unpin()
    }

    private func submitted() {
        let cancelNow = slot.withLock { slot in
            switch slot.phase {
            case .submitting: slot.phase = .inFlight
            case .submittingCancelled:
                slot.phase = .cancelling
                return true
            case .idle, .inFlight, .cancelling, .completed: break
            }
            return false
        }
        if cancelNow { carrier.cancel() }
    }

    /// No completion will come: the submitter does its part.
    private func fail(_ status: URBStatus) {
        let table = table
        var taken = takeURB()
        if let urb = taken.urb.take() {
            carrier.discard()
            urb.complete(status)
        }
        withExtendedLifetime(table) { unpin() }
    }

    /// libusb's thread: the transfer has ended.
    func completed() {
        // The handler may drop the last reference to the device and its table.
        let table = table
        var taken = takeURB()
        let cancelled = taken.cancelled
        if var urb = taken.urb.take() {
            let (status, length) = carrier.collect(&urb, cancelled: cancelled)
            urb.complete(status, actualLength: length)
        }
        withExtendedLifetime(table) { unpin() }
    }

    private struct Taken: ~Copyable, Sendable {
        var urb: URB?
        let cancelled: URBStatus
    }

    private func takeURB() -> Taken {
        slot.withLock { slot in
            slot.phase = .completed
            return Taken(urb: slot.urb.take(), cancelled: slot.cancelled)
        }
    }

    /// Asks that it end with `status` where it is on one of these endpoints, a bit an index.
    func cancelIfOn(_ endpoints: UInt32, endingWith status: URBStatus) {
        let token = slot.withLock { slot in
            endpoints & (1 << UInt32(slot.endpoint.index)) != 0 ? slot.token : nil
        }
        if let token { cancel(token, endingWith: status) }
    }

    /// Asks that it end with `status`. A no-op where it isn't in flight, or holds another URB than `token`.
    func cancel(_ token: URBToken, endingWith status: URBStatus = .cancelled) {
        let now = slot.withLock { slot in
            guard slot.token == token else { return false }
            switch slot.phase {
            case .submitting:
                slot.phase = .submittingCancelled
                slot.cancelled = status
                return false
            case .inFlight:
                slot.phase = .cancelling
                slot.cancelled = status
                slot.pins += 1
                return true
            case .idle, .submittingCancelled, .cancelling, .completed: return false
            }
        }
        guard now else { return }
        let table = table
        carrier.cancel()
        withExtendedLifetime(table) { unpin() }
    }

    private func unpin() {
        let (isLast, token, endpoint) = slot.withLock { slot in
            slot.pins -= 1
            guard slot.pins == 0 else { return (false, slot.token, slot.endpoint) }
            slot.phase = .idle
            return (true, slot.token, slot.endpoint)
        }
        if isLast { table.recycle(self, token: token, endpoint: endpoint) }
    }
}
