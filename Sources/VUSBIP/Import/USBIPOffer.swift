// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// A device that a server tells of in OP_REP_DEVLIST.
package struct USBIPOffer: Sendable, Equatable {
    /// As `USBIPRemote` takes it.
    package let busID: String
    package let vendorID: UInt16
    package let productID: UInt16
    package let speed: DeviceSpeed
    package let deviceClass: UInt8

    package init(busID: String, vendorID: UInt16, productID: UInt16, speed: DeviceSpeed, deviceClass: UInt8) {
        self.busID = busID
        self.vendorID = vendorID
        self.productID = productID
        self.speed = speed
        self.deviceClass = deviceClass
    }
}
