// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// A device that a guest holds.
struct Attachment: Sendable {
    /// As for usbfs: all its devices have this major number.
    static let major = 189

    let record: DeviceRecord
    let guest: String
    let slot: GuestSlot
    let device: VirtualDevice

    var path: String { slot.path }

    var info: AttachmentInfo {
        let counters = device.counters
        return AttachmentInfo(
            device: record.id.rawValue,
            guest: guest,
            path: path,
            busNumber: slot.busNumber,
            deviceNumber: slot.deviceNumber,
            major: Self.major,
            minor: slot.minor,
            urbsInFlight: device.inFlight,
            urbs: counters.completedURBs,
            failedURBs: counters.failedURBs,
            bytesIn: counters.bytesIn,
            bytesOut: counters.bytesOut
        )
    }
}
