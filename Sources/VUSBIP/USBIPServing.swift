// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// What serves devices to guests in mode `usbip`: `USBIPFront`, or a test's.
package protocol USBIPServing: Sendable {
    /// Peers can connect when it returns.
    /// - Throws: `invalid`, `io`.
    func serve(_ definition: USBIPListenerDefinition) throws(USBError) -> any USBIPListening

    /// A device that a guest holds: peers that are this guest may import it from now on.
    /// - Throws: `busy` where the guest has another one at that path.
    func offer(_ device: VirtualDevice, at place: USBIPPlace) throws(USBError) -> any USBIPExported

    func events() -> AsyncStream<USBIPEvent>

    /// Why nobody could listen there now, as far as that is known without doing so.
    func obstacle(at endpoint: USBIPListenerDefinition.Endpoint) -> USBError?
}

/// A socket at which peers connect.
package protocol USBIPListening: Sendable {
    /// Of TCP: that which the kernel has chosen, where any would do.
    var port: UInt16? { get }

    /// Nobody can connect any more when it returns. Sessions go on.
    func end() async
}

/// A device that is exported.
package protocol USBIPExported: Sendable {
    var place: USBIPPlace { get }
    var status: USBIPStatus { get }

    /// What the peer says waits from now on; transfers in flight go on.
    func quiet()
    func resume()
    /// The device has been reset since its last session: it may be imported again.
    func readmit()
    /// Takes it back: its session is ended, its URBs have ended or been given up when this returns. Nothing is told of it
    /// any more.
    func end() async
}
