// SPDX-License-Identifier: Apache-2.0

/// The one seam below: what a source offers for an opened device.
///
/// Any thread may call `submit` and `cancel`; `VirtualDevice` calls them with no lock held.
package protocol USBBackend: AnyObject, Sendable {
    /// Takes a URB and gives it back exactly once by `URB.complete`, perhaps before this returns. It never throws and
    /// never blocks; what can't be done is a completion.
    ///
    /// - `setConfiguration` and `setInterface` end the URBs in flight on the endpoints that they disable, with
    ///   `shutdown`, before they complete.
    func submit(_ urb: consuming URB)

    /// Asks that a URB end soon. It is best effort, idempotent, and a no-op for a token that isn't in flight here.
    /// The URB ends with `cancelled`, or with what it achieved first.
    func cancel(_ token: URBToken)

    /// Resets the port. URBs in flight end with `shutdown`. The configuration and alternate settings afterwards are
    /// those from before.
    /// - Throws: `gone` where the device came back as another one or not at all: to be handled as an unplug.
    func reset() async throws(USBError)

    /// Ends the use of the device: cancels what is still in flight, waits for it, releases all, and lets the host's
    /// own driver have the device again. Called once, last; but a call that a device has held up for seconds may be
    /// running yet. It returns in bounded time, also where the device answers nothing.
    func close() async
}
