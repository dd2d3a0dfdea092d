// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

extension Uevent {
    /// The kernel's form (lib/kobject_uevent.c): `action@path`, then `KEY=value` strings, each with a NUL at its end.
    /// The kernel itself puts `SEQNUM` behind it.
    package var kernelBytes: [UInt8] {
        Array("\(action.rawValue)@\(devicePath)\0".utf8) + Self.strings(allProperties)
    }

    /// The properties of every message, and those of this device.
    var allProperties: [Property] {
        [
            Property("ACTION", action.rawValue), Property("DEVPATH", devicePath), Property("SUBSYSTEM", subsystem),
        ] + properties
    }

    static func strings(_ properties: [Property]) -> [UInt8] {
        properties.flatMap { Array("\($0.key)=\($0.value)\0".utf8) }
    }
}
