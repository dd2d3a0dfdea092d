// SPDX-License-Identifier: Apache-2.0

/// Where a guest has a device: what its importer knows it by.
package struct USBIPPlace: Sendable, Hashable {
    package let guest: String
    /// In the guest's directory, and on the wire as the busid: `1-1`.
    package let path: String
    package let busNumber: UInt16
    package let deviceNumber: UInt16

    package init(guest: String, path: String, busNumber: UInt16, deviceNumber: UInt16) {
        self.guest = guest
        self.path = path
        self.busNumber = busNumber
        self.deviceNumber = deviceNumber
    }

    /// `devid` of its commands.
    var deviceID: UInt32 { UInt32(busNumber) << 16 | UInt32(deviceNumber) }
}
