// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// One recycled transfer of libusb, seen by `HostTransfer`; tests have one of their own.
protocol TransferCarrier: AnyObject, Sendable {
    /// Fills in the transfer. Nil, or why it can't be done. Called by whoever reserved the `HostTransfer`.
    func prepare(_ urb: borrowing URB, for transfer: HostTransfer) -> URBStatus?

    /// Hands the transfer over; 0 or a code of libusb. With 0, `HostTransfer.completed` follows once, perhaps before
    /// this returns.
    func submit() -> Int32

    /// Asks for an early end; harmless where the transfer has just ended.
    func cancel()

    /// Takes the results out of a completed transfer into the URB.
    /// - Parameter cancelled: the status of a transfer that was cancelled.
    func collect(_ urb: inout URB, cancelled: URBStatus) -> (status: URBStatus, actualLength: Int)

    /// Lets go of what only this URB needed, where it won't complete.
    func discard()
}
