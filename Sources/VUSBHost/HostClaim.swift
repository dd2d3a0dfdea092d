// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// Which interfaces of a device are ours, and what the host had them for.
struct HostClaim: Sendable {
    struct Failure: Error {
        let interface: UInt8
        /// libusb's.
        let code: Int32
    }

    /// Interfaces that libusb can claim are numbered below this.
    static let interfaceLimit: UInt8 = 32

    /// Claimed, in the order in which it was done.
    private(set) var held: [UInt8] = []
    /// Those that no other program had at the beginning: a driver of the kernel's, or nobody.
    let driven: [UInt8]
    /// That of the beginning.
    let configurationValue: UInt8

    init(driven: [UInt8], configurationValue: UInt8) {
        self.driven = driven
        self.configurationValue = configurationValue
    }

    /// Claims them all, away from the kernel's drivers.
    /// - Throws: which one can't be had; those before it stay held: `giveBack` is the way out.
    mutating func take(_ interfaces: [UInt8], through port: any HandlePort) throws(Failure) {
        for interface in interfaces {
            let code = port.claim(interface)
            guard code == 0 else { throw Failure(interface: interface, code: code) }
            held.append(interface)
        }
    }

    /// Lets go of all, last one first. What fails is a device that left: then there is nothing to let go of.
    mutating func releaseAll(through port: any HandlePort) {
        while let interface = held.popLast() { _ = port.release(interface) }
    }

    /// Lets go of all, and lets the host have the device as it was. Drivers of several interfaces (CDC, audio) want
    /// all of them free, and take the others with the first.
    mutating func giveBack(through port: any HandlePort, currentConfiguration: UInt8) {
        releaseAll(through: port)
        if currentConfiguration != configurationValue {
            // The kernel looks for drivers by itself after this.
            _ = port.setConfiguration(configurationValue == 0 ? -1 : Int32(configurationValue))
            return
        }
        // BUSY and NOT_FOUND: another interface's driver has taken it, or will, or there is none for it.
        for interface in driven { _ = port.attachDriver(interface) }
    }
}
