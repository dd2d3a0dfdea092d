// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// Guests of different importance on one bus. Scheduling.md of VUSBCore has the rules.
extension ControlPlane {
    /// A device's way to its bus, for as long as the guest has it.
    func lane(for record: DeviceRecord, path: String, of guest: String) -> BusLane {
        let entry = guestRegistry[guest]
        return BusLane(
            buses.scheduler(for: record),
            priority: priority(of: record.id, at: guest),
            limits: entry?.limits,
            onPassedOver: { [weak self] time in
                Task { await self?.tellOfPreemption(guest, record.id, path, time) }
            })
    }

    private func tellOfPreemption(_ guest: String, _ id: DeviceID, _ path: String, _ time: Duration) {
        guard guestRegistry[guest] != nil else { return }
        let milliseconds = (time.milliseconds * 10).rounded() / 10
        emit(
            .preempted, guest: guest, device: id, path: path,
            detail: "waited \(milliseconds) ms while more important guests were served")
    }

    /// The guest's own, or that of the most important guest which waits for the device: what its holder does on it keeps
    /// that one waiting.
    private func priority(of id: DeviceID, at guest: String) -> Int {
        let own = guestRegistry[guest]?.definition.priority ?? GuestDefinition.defaultPriority
        return max(own, deviceQueue.first(for: id)?.priority ?? own)
    }

    /// Who waits for the device has changed.
    func inheritPriority(_ id: DeviceID) {
        guard let attachment = deviceRegistry[id]?.attachment else { return }
        attachment.lane.setPriority(priority(of: id, at: attachment.guest))
    }

    /// - Throws: `unavailable` where the guest has as many devices as it may.
    func checkMayHaveMore(_ guest: String) throws(Problem) {
        guard let limit = fullLimit(of: guest) else { return }
        throw Problem(
            .unavailable, "guest \(guest) has \(limit) device\(limit == 1 ? "" : "s"), as many as it may have",
            remedy: "detach one first, or declare the guest with more (max-devices)")
    }

    /// How many devices it may have, where it has them.
    func fullLimit(of guest: String) -> Int? {
        guard let limit = guestRegistry[guest]?.definition.deviceLimit else { return nil }
        return deviceRegistry.attachments(of: guest).count >= limit ? limit : nil
    }
}
