// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBHost

/// What `doctor` says of devices and sources.
extension ControlPlane {
    func sourceFindings() -> [Finding] {
        let working = sources.keys.sorted().map { name in
            let count = deviceRegistry.visible.count { $0.source == name }
            return Finding(check: "source \(name)", level: .ok, summary: "\(count) device\(count == 1 ? "" : "s")")
        }
        let failed = failedSources.sorted { $0.key < $1.key }.map { name, error in
            Finding(check: "source \(name)", level: .error, summary: error.message, remedy: error.remedy)
        }
        return working + failed
    }

    func refusalFindings() -> [Finding] {
        deviceRegistry.refusals.sorted { $0.key < $1.key }.map { id, refusal in
            Finding(
                check: "device \(id)",
                level: .warning,
                summary: "refused: \(refusal.reason)",
                remedy: "what it says of itself can't be believed: it stays with the host; unplug it if it's unknown"
            )
        }
    }

    /// Devices that a guest is to have and doesn't: their last attach failed.
    func busyFindings() -> [Finding] {
        deviceRegistry.visible.compactMap { record in
            guard let entry = deviceRegistry[record.id], case .free = entry.holder else { return nil }
            guard let guest = guestRegistry.taker(of: record) else { return nil }
            let failure = eventRing.known.last {
                $0.type == EventType.attachFailed.rawValue && $0.device == record.id.rawValue
            }
            return Finding(
                check: "device \(record.id)",
                level: .warning,
                summary: failure?.detail ?? "not attached to guest \(guest), which is to have it",
                remedy: "attach it by hand to see why: vusbctl attach \(record.id) \(guest)"
            )
        }
    }

    /// Devices of the host's that nobody has, and that no guest could get now. It matters where one is to have it.
    func obstacleFindings() -> [Finding] {
        deviceRegistry.visible.compactMap { record in
            guard let entry = deviceRegistry[record.id], case .free = entry.holder else { return nil }
            guard let obstacle = HostObstacle.of(record) else { return nil }
            return Finding(
                check: "use of \(record.id)",
                level: guestRegistry.taker(of: record) == nil ? .ok : .warning,
                summary: obstacle.message,
                remedy: obstacle.remedy
            )
        }
    }
}
