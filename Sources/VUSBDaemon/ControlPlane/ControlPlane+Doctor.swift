// SPDX-License-Identifier: Apache-2.0

internal import VUSBCharDevice
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

    /// Whether nodes work is settled when vusbd starts.
    func nodeFindings() -> [Finding] {
        guard nodes == nil, CharDeviceFront.obstacle() == nil else { return [] }
        return [
            Finding(
                check: "nodes", level: .warning,
                summary: "/dev/cuse wasn't there when vusbd started: guests can't have character nodes",
                remedy: "start vusbd again, and load cuse before it at the next boot (/etc/modules)")
        ]
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
            guard case .loaded(let guest) = heir(of: record) else { return nil }
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
            let heir = heir(of: record)
            if let guest = heir.name, isForced(record, for: guest) { return nil }
            guard let obstacle = HostObstacle.of(record) else { return nil }
            return Finding(
                check: "use of \(record.id)",
                level: heir == .nobody ? .ok : .warning,
                summary: obstacle.message,
                remedy: obstacle.remedy
            )
        }
    }
}
