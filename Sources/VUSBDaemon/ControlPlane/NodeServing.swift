// SPDX-License-Identifier: Apache-2.0

internal import VUSBCharDevice
internal import VUSBCore
internal import VUSBUevent

/// What serves devices as character nodes that speak usbfs, and tells containers of them: `CharDeviceFront`, or a test's.
protocol NodeServing: Sendable {
    /// What keeps this host from having such nodes, with the remedy; nil where nothing does.
    var obstacle: USBError? { get }

    /// The major number of all of a guest's nodes; nil where none is left.
    func major(of guest: String) throws(USBError) -> Int?
    /// It's to have this one again.
    /// - Returns: whether it has.
    func restore(_ major: Int, of guest: String) -> Bool
    /// It's no guest any more.
    func forget(_ guest: String)

    /// A node that can be opened by its numbers.
    func serve(_ slot: GuestSlot, of guest: String, device: VirtualDevice) throws(USBError) -> any NodePort

    func events() -> AsyncStream<CharDeviceEvent>

    /// Who tells the programs in a process's network of what comes and goes.
    /// - Returns: nil where that is vusbd's own network: the host's programs aren't the guest's.
    func teller(inNetworkOf process: Int) throws(USBError) -> (any UeventTelling)?
}

/// A device that is served as a character node.
protocol NodePort: Sendable {
    var number: CharacterDeviceNumber { get }
    var status: CharDeviceStatus { get }

    func quiet()
    func resume()
    func end()
}

/// Says what comes and goes.
protocol UeventTelling: Sendable {
    func send(_ events: [Uevent]) throws(USBError)
}

extension CharDevicePort: NodePort {}
extension UeventSender: UeventTelling {}

extension CharDeviceFront: NodeServing {
    var obstacle: USBError? { Self.obstacle() }

    func serve(_ slot: GuestSlot, of guest: String, device: VirtualDevice) throws(USBError) -> any NodePort {
        try open(
            path: slot.path, of: guest, device: device, busNumber: slot.busNumber, deviceNumber: slot.deviceNumber)
    }

    func teller(inNetworkOf process: Int) throws(USBError) -> (any UeventTelling)? {
        guard try !UeventSender.isOwnNetwork(of: process) else { return nil }
        return try UeventSender(namespaceOf: process)
    }
}
