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
    /// Those of the configuration that is set; the first few.
    package let interfaces: [USBIPInterfaceClass]

    package init(
        busID: String, vendorID: UInt16, productID: UInt16, speed: DeviceSpeed, deviceClass: UInt8,
        interfaces: [USBIPInterfaceClass] = []
    ) {
        self.busID = busID
        self.vendorID = vendorID
        self.productID = productID
        self.speed = speed
        self.deviceClass = deviceClass
        self.interfaces = interfaces
    }
}

/// Class, subclass and protocol of an interface.
package struct USBIPInterfaceClass: Sendable, Equatable {
    package let number: UInt8
    package let subclass: UInt8
    package let protocolNumber: UInt8

    package init(_ number: UInt8, _ subclass: UInt8, _ protocolNumber: UInt8) {
        self.number = number
        self.subclass = subclass
        self.protocolNumber = protocolNumber
    }
}

/// What a server says that it lends.
package struct USBIPOfferList: Sendable, Equatable {
    /// An entry that can't be imported: V16 of Imports.md.
    package struct LeftOut: Sendable, Equatable {
        /// As the server has it, as far as that is a text.
        package let busID: String
        package let reason: String

        package init(busID: String, reason: String) {
            self.busID = busID
            self.reason = reason
        }
    }

    package var offers: [USBIPOffer]
    package var leftOut: [LeftOut]

    package init(offers: [USBIPOffer] = [], leftOut: [LeftOut] = []) {
        self.offers = offers
        self.leftOut = leftOut
    }
}
