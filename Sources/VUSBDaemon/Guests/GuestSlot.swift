// SPDX-License-Identifier: Apache-2.0

/// A guest's place for a device, and the numbers that follow from it. They are those of usbfs: devices are numbered
/// from 1, 127 a bus; a bus has 128 minor numbers.
struct GuestSlot: Hashable, Sendable, Comparable {
    static let devicesPerBus = 127
    /// A bus has eight bits of an inode number in /vusb.
    static let buses = 255
    static let count = devicesPerBus * buses

    let index: Int

    /// Nil beyond what can be numbered.
    init?(index: Int) {
        guard (0..<Self.count).contains(index) else { return nil }
        self.index = index
    }

    init?(busNumber: Int, deviceNumber: Int) {
        guard (1...Self.buses).contains(busNumber), (1...Self.devicesPerBus).contains(deviceNumber) else { return nil }
        index = (busNumber - 1) * Self.devicesPerBus + deviceNumber - 1
    }

    var busNumber: Int { index / Self.devicesPerBus + 1 }
    var deviceNumber: Int { index % Self.devicesPerBus + 1 }
    var minor: Int { (busNumber - 1) * 128 + deviceNumber - 1 }
    /// Bus and port, as sysfs names a device on a root hub.
    var path: String { "\(busNumber)-\(deviceNumber)" }

    static func < (left: GuestSlot, right: GuestSlot) -> Bool { left.index < right.index }
}
