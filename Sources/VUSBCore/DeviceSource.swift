// SPDX-License-Identifier: Apache-2.0

/// Names a device on the host: the bus-port path as in sysfs (`1-2.3`), `emu-NAME` for an emulated one, or `ip-NAME`
/// for one that is imported.
package struct DeviceID: RawRepresentable, Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: String
    package init(rawValue: String) { self.rawValue = rawValue }
    package init(_ rawValue: String) { self.rawValue = rawValue }
    package var description: String { rawValue }
    package static func < (left: DeviceID, right: DeviceID) -> Bool { left.rawValue < right.rawValue }
}

/// A device that a source has: what it says of itself and where it is.
package struct DeviceRecord: Sendable, Equatable {
    package var id: DeviceID
    /// The source's name: `libusb`, `emulation` or `usbip`.
    package var source: String
    package var speed: DeviceSpeed
    package var descriptors: Descriptors
    package var manufacturer: String?
    package var product: String?
    package var serial: String?
    /// On the host; nil for a device that isn't on one of its buses.
    package var busNumber: Int?
    package var deviceNumber: Int?

    package init(
        id: DeviceID,
        source: String,
        speed: DeviceSpeed,
        descriptors: Descriptors,
        manufacturer: String? = nil,
        product: String? = nil,
        serial: String? = nil,
        busNumber: Int? = nil,
        deviceNumber: Int? = nil
    ) {
        self.id = id
        self.source = source
        self.speed = speed
        self.descriptors = descriptors
        self.manufacturer = manufacturer
        self.product = product
        self.serial = serial
        self.busNumber = busNumber
        self.deviceNumber = deviceNumber
    }
}

/// What a source tells the registry, in order.
package enum DeviceEvent: Sendable {
    case arrived(DeviceRecord)
    case left(DeviceID)
    /// A device that isn't taken because of what it says of itself, with the reason.
    case refused(DeviceID, reason: String)
}

/// An opened device, and the settings that it is in.
package struct OpenedDevice: Sendable {
    package let backend: any USBBackend
    package let configurationValue: UInt8
    package let alternates: [InterfaceNumber: UInt8]
    /// Buffers in memory from which the source moves data without a copy of its own; nil where it has none. The CPU
    /// and sockets may use it as any other; FUSE may not be given its pages to send (the kernel refuses to pin them),
    /// so it serves the file front for OUT data only.
    package let pool: BufferPool?

    package init(
        backend: any USBBackend,
        configurationValue: UInt8,
        alternates: [InterfaceNumber: UInt8] = [:],
        pool: BufferPool? = nil
    ) {
        self.backend = backend
        self.configurationValue = configurationValue
        self.alternates = alternates
        self.pool = pool
    }
}

/// Where devices come from.
package protocol DeviceSource: Sendable {
    /// As in `DeviceRecord.source`.
    var name: String { get }

    /// Begins to watch. What is there already arrives first. The stream ends with `stop`. Called once.
    func start() throws(USBError) -> AsyncStream<DeviceEvent>

    /// Takes the device from the host's own drivers and opens it. It is read anew: a device whose descriptors differ
    /// from `record` is refused.
    /// - Parameter isForced: also where the host itself uses it.
    func open(_ record: DeviceRecord, isForced: Bool) async throws(USBError) -> OpenedDevice

    /// Ends the watch. Devices that are open stay so until their backend is closed.
    func stop() async
}
