// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The schedulers, one for each bus of the host on which a device was lent. A value without a lock of its own;
/// `ControlPlane` guards it.
struct BusTable: Sendable {
    private enum Bus: Hashable {
        /// A root hub's number: USB 2 and USB 3 have one each, and share no wires.
        case host(Int)
        /// Devices that are on no bus: they share a processor, which has no speed of its own, hence one of their kind.
        case other(String, DeviceSpeed)
    }

    private var schedulers: [Bus: BusScheduler] = [:]

    /// The one that a device's URBs go by.
    mutating func scheduler(for record: DeviceRecord) -> BusScheduler {
        let bus = record.busNumber.map { Bus.host($0) } ?? .other(record.source, record.speed)
        if let scheduler = schedulers[bus] { return scheduler }
        // A slow device is on a faster bus, nearly always; where it isn't the scheduler finds that out.
        let speed: DeviceSpeed = record.speed == .low || record.speed == .full ? .high : record.speed
        let scheduler = BusScheduler(window: BusWindow(speed))
        schedulers[bus] = scheduler
        return scheduler
    }
}
