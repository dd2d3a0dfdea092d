// SPDX-License-Identifier: Apache-2.0

extension URB {
    /// Where a URB that a scheduler let pass is counted.
    struct Charge: OptionSet, Sendable {
        let rawValue: UInt8
        /// Among the bytes in flight on its bus.
        static let window = Charge(rawValue: 1)
        /// Among what its guest has in flight.
        static let inFlight = Charge(rawValue: 2)
        /// Against its guest's rate.
        static let rate = Charge(rawValue: 4)
    }

    /// Its place on the bus is reserved: it waits for nobody.
    var isPeriodic: Bool { operation == .transfer(.interrupt) || operation == .transfer(.isochronous) }

    /// The device that accepted it hands it to its backend, unless it was cancelled meanwhile.
    consuming func carryOut() {
        guard let device else { return }
        device.carryOut(self)
    }
}
