// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore
internal import VUSBRedir

/// What serves devices to guests in mode `redirect`: `RedirFront`, or a test's.
protocol RedirectServing: Sendable {
    /// A socket at which the device waits for the guest's machine.
    func serve(
        path: String, of guest: String, device: VirtualDevice, owner: UInt32
    ) throws(USBError) -> any RedirectPort

    func events() -> AsyncStream<RedirEvent>
}

/// A device that is served at a socket.
protocol RedirectPort: Sendable {
    var socketPath: String { get }
    var status: RedirStatus { get }
    /// Nothing comes of it any more: it was ended here, or by the guest's side.
    var isOver: Bool { get }

    func waitForHello(within limit: Duration) async -> RedirStatus
    func quiet()
    func resume()
    func end()
}

extension RedirPort: RedirectPort {}

extension RedirFront: RedirectServing {
    func serve(
        path: String, of guest: String, device: VirtualDevice, owner: UInt32
    ) throws(USBError) -> any RedirectPort {
        try open(path: path, of: guest, device: device, owner: owner)
    }
}
