// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore
internal import VUSBEmulation

/// A source whose devices are plugged in by a specification: `EmulationSource`, or a test's.
protocol DeviceEmulator: DeviceSource {
    /// - Parameter specification: `KIND[=ARG][,OPTION=VALUE...]`.
    /// - Returns: what was plugged in; it arrives in the source's stream as well.
    func plugIn(_ specification: String) throws(USBError) -> [DeviceRecord]
    /// The file that a specification names; nil where it names none.
    func image(of specification: String) throws(USBError) -> String?
    /// Unplugs a device, as abruptly as a hand does.
    func pullOut(_ id: DeviceID) throws(USBError)
    /// Types text on an emulated keyboard.
    func type(_ text: String, on id: DeviceID) throws(USBError)
    /// Presses keys of one by their names.
    func press(_ keys: [String], on id: DeviceID) throws(USBError)
}

extension EmulationSource: DeviceEmulator {
    func plugIn(_ specification: String) throws(USBError) -> [DeviceRecord] {
        try add(EmulationSpecification(parsing: specification))
    }

    func image(of specification: String) throws(USBError) -> String? {
        guard case .disk(let image, _) = try EmulationSpecification(parsing: specification).kind else { return nil }
        return image
    }

    func pullOut(_ id: DeviceID) throws(USBError) { try remove(id) }
}
