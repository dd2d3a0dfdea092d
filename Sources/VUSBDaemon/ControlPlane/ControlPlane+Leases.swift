// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem

/// What is looked at once a second: guests that have promised to be heard of, and devices whose transfers don't end.
/// Arbiter.md has the rows, L1 to L7.
extension ControlPlane {
    static let watchPeriod = Duration.seconds(1)

    func watch() {
        pumps.append(
            Task {
                var last = ContinuousClock.now
                while !Task.isCancelled {
                    // A cancelled sleep only means that the daemon stops.
                    try? await Task.sleep(for: Self.watchPeriod)
                    let now = ContinuousClock.now
                    self.look(at: now, late: now - last > Self.watchPeriod * 3)
                    last = now
                }
            })
        let beats = tree.heartbeatEvents()
        pumps.append(
            Task {
                for await beat in beats { self.hear(beat) }
            })
    }

    /// - Parameter late: vusbd itself didn't run meanwhile: nobody can have been heard.
    func look(at now: ContinuousClock.Instant, late: Bool) {
        guard phase == .running else { return }
        for guest in guestRegistry.sorted where guest.state == .loaded {
            guard let limit = guest.definition.heartbeat else { continue }
            lookAt(guest.definition.name, limit, at: now, late: late)
        }
        for attachment in deviceRegistry.attachments { attachment.device.overdue(now: AlarmThread.shared.now()) }
    }

    private func lookAt(_ name: String, _ limit: Duration, at now: ContinuousClock.Instant, late: Bool) {
        if let since = guestRegistry[name]?.silentSince {
            // A beat may have come while it was being unloaded, or bound to another process.
            if let beat = tree.lastHeartbeat(of: name), beat > since { return heard(name) }
            // What an operation was at when it fell silent may be its own again.
            return takeFromSilent(name)
        }
        if late { change(name) { $0.heartbeatSince = now } }
        let heard = [tree.lastHeartbeat(of: name), guestRegistry[name]?.heartbeatSince].compactMap { $0 }.max()
        if let heard, now - heard > limit { fallSilent(name, limit) }
    }

    /// L5
    private func fallSilent(_ name: String, _ limit: Duration) {
        change(name) { $0.silentSince = .now }
        // Sooner than the next look would find it.
        tree.tellNextBeat(of: name)
        deviceQueue.tell(guest: name)
        emit(.guestSilent, guest: name, detail: "nothing was heard of it for \(limit.inSeconds) s")
        takeFromSilent(name)
    }

    private func takeFromSilent(_ name: String) {
        for attachment in attached(to: name) {
            let operation = begin(.detach, guest: name, device: attachment.record.id)
            operationLog.setCancellable(operation, false)
            mark([attachment], by: operation)
            _ = run(operation) { (plane, operation) async throws(Problem) in
                try await plane.takeBack([attachment], from: name, .atOnce, operation: operation)
                plane.offerFree()
                await plane.persist()
                return nil
            }
        }
    }

    /// L6
    private func hear(_ beat: HeartbeatEvent) {
        guard let guest = guestRegistry[beat.guest], let since = guest.silentSince, beat.instant > since else { return }
        heard(beat.guest)
    }

    private func heard(_ name: String) {
        guard phase == .running, guestRegistry[name]?.state == .loaded else { return }
        change(name) { $0.silentSince = nil }
        deviceQueue.tell(guest: name)
        emit(.guestHeard, guest: name)
        offerAll(to: name)
        failBack(to: name)
    }
}
