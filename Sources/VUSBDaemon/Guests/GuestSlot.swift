// SPDX-License-Identifier: Apache-2.0

/// A guest's place for a device, and the numbers that follow from it. They are those of usbfs: a bus has 127 device
/// numbers, of which its root hub has the first, and 128 minor numbers.
struct GuestSlot: Hashable, Sendable, Comparable {
    static let devicesPerBus = 126
    /// A bus has eight bits of an inode number in /vusb.
    static let buses = 255
    static let count = devicesPerBus * buses

    let index: Int

    /// Nil beyond what can be numbered.
    init?(index: Int) {
        guard (0..<Self.count).contains(index) else { return nil }
        self.index = index
    }

    init?(busNumber: Int, port: Int) {
        guard (1...Self.buses).contains(busNumber), (1...Self.devicesPerBus).contains(port) else { return nil }
        index = (busNumber - 1) * Self.devicesPerBus + port - 1
    }

    var busNumber: Int { index / Self.devicesPerBus + 1 }
    /// From 1.
    var port: Int { index % Self.devicesPerBus + 1 }
    var deviceNumber: Int { port + 1 }
    var minor: Int { (busNumber - 1) * 128 + deviceNumber - 1 }
    /// Bus and port, as sysfs names a device on a root hub.
    var path: String { "\(busNumber)-\(port)" }

    static func < (left: GuestSlot, right: GuestSlot) -> Bool { left.index < right.index }
}
