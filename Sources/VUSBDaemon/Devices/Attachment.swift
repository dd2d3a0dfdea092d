// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBRedir
internal import VUSBVMM

/// A device that a guest holds.
struct Attachment: Sendable {
    let record: DeviceRecord
    let guest: String
    let slot: GuestSlot
    let device: VirtualDevice
    /// Its way to the bus.
    let lane: BusLane
    /// How its guest was loaded.
    let mode: GuestMode
    /// Where the guest's machine gets it, in mode `redirect`.
    var redirect: (any RedirectPort)?
    /// Where the guest's programs find it, in mode `files` with `nodes`.
    var node: (any NodePort)?

    var path: String { slot.path }

    /// No new transfers; those in flight go on.
    func quiet() {
        redirect?.quiet()
        node?.quiet()
    }

    func resume() {
        redirect?.resume()
        node?.resume()
    }

    var info: AttachmentInfo {
        let counters = device.counters
        return AttachmentInfo(
            device: record.id.rawValue,
            guest: guest,
            path: path,
            busNumber: slot.busNumber,
            deviceNumber: slot.deviceNumber,
            major: node?.number.major ?? CharacterDeviceNumber.unservedMajor,
            minor: node?.number.minor ?? slot.minor,
            mode: mode.rawValue,
            state: redirect.map { $0.status.state.rawValue } ?? "attached",
            urbsInFlight: device.inFlight,
            urbs: counters.completedURBs,
            failedURBs: counters.failedURBs,
            bytesIn: counters.bytesIn,
            bytesOut: counters.bytesOut
        )
    }
}
