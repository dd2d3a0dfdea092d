// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore

/// Devices that misbehave are kept from all guests. Arbiter.md has the rows, X1 to X5; what misbehaving is, Health.md of
/// VUSBCore.
extension ControlPlane {
    /// Whoever watches the device that is being attached.
    func health(of id: DeviceID) -> DeviceHealth {
        let limits = healthLimits
        return DeviceHealth(limits) { [weak self] misbehaviour in
            Task { await self?.judge(id, misbehaviour) }
        }
    }

    private func judge(_ id: DeviceID, _ misbehaviour: Misbehaviour) {
        // It may have gone, and another one be there.
        guard let attachment = deviceRegistry[id]?.attachment, attachment.device.health?.verdict != nil else { return }
        quarantine(id, misbehaviour)
        if case .attached? = deviceRegistry[id]?.holder {
            depart(attachment, because: "quarantined")
        } else {
            attachment.device.disconnect()
        }
    }

    private func quarantine(_ id: DeviceID, _ misbehaviour: Misbehaviour) {
        let reason = misbehaviour.description
        deviceRegistry[id]?.quarantine = misbehaviour
        logger.warning("device quarantined", metadata: ["device": "\(id)", "reason": "\(reason)"])
        emit(.deviceQuarantined, guest: deviceRegistry[id]?.guest, device: id, detail: reason)
        showHost(id)
    }

    /// X5
    func trust(_ name: String) throws(Problem) -> DeviceInfo {
        let id = try resolve(name)
        guard deviceRegistry[id]?.quarantine != nil else {
            throw Problem(.conflict, "device \(id) isn't quarantined", remedy: "there is nothing to do")
        }
        storms[id] = nil
        endQuarantine(of: id)
        return try device(id.rawValue)
    }

    private func endQuarantine(of id: DeviceID) {
        deviceRegistry[id]?.quarantine = nil
        emit(.deviceTrusted, device: id)
        showHost(id)
        offer(id)
    }

    func checkTrusted(_ id: DeviceID) throws(Problem) {
        guard let reason = deviceRegistry[id]?.quarantine else { return }
        throw Problem(
            .conflict, "device \(id) is quarantined: \(reason)",
            remedy: (storms[id] == nil
                ? "plug it in anew" : "leave it plugged in until its port has been quiet for a while")
                + ", or trust it again: vusbctl trust \(id)")
    }

    /// It was judged while it was being attached: nobody had it yet.
    func checkHealth(_ attachment: Attachment) throws(Problem) {
        guard let verdict = attachment.device.health?.verdict else { return }
        if deviceRegistry[attachment.record.id]?.quarantine == nil { quarantine(attachment.record.id, verdict) }
        try checkTrusted(attachment.record.id)
    }

    // MARK: - Storms

    /// X3. Before anybody is given what is plugged in.
    func noteArrival(at id: DeviceID) {
        guard !healthLimits.disconnects.isOff else { return }
        let now = AlarmThread.shared.now()
        _ = storms[id]?.record(.arrived, at: now)
        guard let storm = storms[id], storm.isStorm(at: now), let calm = storm.calmTime else { return }
        let limit = healthLimits.disconnects
        quarantine(id, .plugStorm(limit.count, within: limit.window))
        awaitCalm(at: id, after: .nanoseconds(Int64(clamping: calm - now)))
    }

    func noteDeparture(at id: DeviceID) {
        guard !healthLimits.disconnects.isOff else { return }
        let now = AlarmThread.shared.now()
        storms = storms.filter { !$0.value.isOver(at: now) }
        _ = storms[id, default: PlugStorm(healthLimits)].record(.left, at: now)
    }

    private func awaitCalm(at id: DeviceID, after wait: Duration) {
        Task { [weak self] in
            // Nothing cancels it; it only looks.
            try? await Task.sleep(for: wait)
            await self?.checkCalm(at: id)
        }
    }

    private func checkCalm(at id: DeviceID) {
        let now = AlarmThread.shared.now()
        guard let storm = storms[id] else { return }
        if storm.isStorm(at: now), let calm = storm.calmTime {
            // Time doesn't pass alike for all clocks where the host sleeps.
            return awaitCalm(at: id, after: .nanoseconds(Int64(clamping: calm - now)) + .milliseconds(1))
        }
        storms[id] = nil
        if case .plugStorm? = deviceRegistry[id]?.quarantine { endQuarantine(of: id) }
    }
}
