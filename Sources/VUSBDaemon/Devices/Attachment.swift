// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBIP
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
    /// What clients import, in mode `usbip`.
    var usbip: (any USBIPExported)?
    /// Where the guest's programs find it, in mode `files` with `nodes`.
    var node: (any NodePort)?

    var path: String { slot.path }

    /// No new transfers; those in flight go on.
    func quiet() {
        redirect?.quiet()
        usbip?.quiet()
        node?.quiet()
    }

    func resume() {
        redirect?.resume()
        usbip?.resume()
        node?.resume()
    }

    /// Admits nothing more, and waits for what is in flight.
    /// - Returns: URBs in flight at the deadline. A driver at the other end of USB/IP polls interrupt endpoints all the time, and
    ///   nobody can tell it to stop: that isn't waited for.
    func drain(for limit: Duration) async -> Int {
        guard usbip != nil else { return await device.drain(for: limit) }
        device.stopAdmitting()
        let deadline = ContinuousClock.now + limit
        while true {
            let count = unfinished
            guard count > 0, ContinuousClock.now < deadline, !Task.isCancelled else { return count }
            // Cancelled, it's looked at once more.
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    /// URBs in flight that its guest works with. A driver, unlike a program with a file, polls interrupt endpoints all the time.
    var unfinished: Int { mode == .files ? device.inFlight : max(device.inFlight - polls, 0) }

    /// URBs that wait at interrupt endpoints for something to happen.
    private var polls: Int {
        device.settings.endpoints.reduce(0) { count, endpoint in
            let isPolled = endpoint.transferType == .interrupt && endpoint.bEndpointAddress.direction == .in
            return isPolled ? count + device.inFlight(on: endpoint.bEndpointAddress) : count
        }
    }

    var info: AttachmentInfo {
        let counters = device.counters
        let lease = usbip?.status
        return AttachmentInfo(
            device: record.id.rawValue,
            guest: guest,
            path: path,
            busNumber: slot.busNumber,
            deviceNumber: slot.deviceNumber,
            major: node?.number.major ?? CharacterDeviceNumber.unservedMajor,
            minor: node?.number.minor ?? slot.minor,
            mode: mode.rawValue,
            state: redirect?.status.state.rawValue ?? lease?.state.rawValue ?? "attached",
            urbsInFlight: device.inFlight,
            urbs: counters.completedURBs,
            failedURBs: counters.failedURBs,
            bytesIn: counters.bytesIn,
            bytesOut: counters.bytesOut,
            peer: lease?.peer,
            idleSeconds: lease?.idle.map { max($0.inSeconds, 0) }
        )
    }
}
