// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// Somebody's word that a device isn't to be taken. Arbiter.md, B1.
extension ControlPlane {
    func hold(_ name: String, _ request: HoldRequest) async throws(Problem) -> DeviceInfo {
        try checkRunning()
        let id = try resolve(name)
        guard let entry = deviceRegistry[id], entry.attachment != nil, !entry.hasLeft else {
            throw Problem(.conflict, "device \(id) isn't attached", remedy: "hold it once a guest has it")
        }
        try checkIsCallers(entry.guest, id)
        let seconds = request.seconds ?? Hold.defaultLength
        deviceRegistry[id]?.hold = Hold(from: wallClock(), seconds: seconds, reason: request.reason)
        await persist()
        return try device(id.rawValue)
    }

    func endHold(_ name: String) async throws(Problem) {
        let id = try resolve(name)
        guard let hold = deviceRegistry[id]?.hold, !hold.isOver else {
            throw Problem(.conflict, "nobody holds device \(id)", remedy: "there is nothing to end")
        }
        try checkIsCallers(deviceRegistry[id]?.guest, id)
        deviceRegistry[id]?.hold = nil
        await persist()
    }

    // MARK: - Restart

    var savedHolds: [SavedState.HoldOf] {
        deviceRegistry.entries.values.compactMap { entry in
            guard let hold = entry.hold, !hold.isOver, let guest = entry.guest else { return nil }
            return SavedState.HoldOf(
                device: DeviceIdentity(entry.record), guest: guest, until: hold.until, reason: hold.reason)
        }
    }

    /// Somebody's word outlives vusbd, where the guest has the device again.
    func restoreHolds(_ holds: [SavedState.HoldOf]) {
        let now = wallClock()
        for saved in holds where saved.until > now && saved.until - now <= Rules.holds.upperBound {
            for attachment in deviceRegistry.attachments(of: saved.guest) where saved.device.matches(attachment.record)
            {
                deviceRegistry[attachment.record.id]?.hold = Hold(
                    from: now, seconds: saved.until - now, reason: saved.reason)
            }
        }
    }
}
