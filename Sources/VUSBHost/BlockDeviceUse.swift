// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// Whether the host itself uses the disks behind a mass-storage interface. The kernel would take them away from a
/// mounted file system without a word: so that is asked before a driver is detached.
struct BlockDeviceUse {
    private struct BlockDevice {
        /// `sda1`
        let name: String
        /// `8:1`
        let number: String
        let directory: String
    }

    let paths: HostPaths

    /// The first use found, to be said to people; nil where there is none.
    func use(below interfaceDirectory: String) -> String? {
        let devices = blockDevices(below: interfaceDirectory)
        guard !devices.isEmpty else { return nil }
        let mounts = mountLines()
        let swaps = HostFiles.text(paths.proc + "/swaps", limit: 1 << 16) ?? ""
        for device in devices {
            if let place = Self.mountPoint(of: device, in: mounts) {
                return "/dev/\(device.name) is mounted on \(place)"
            }
            if swaps.split(separator: "\n").contains(where: { $0.hasPrefix("/dev/\(device.name) ") }) {
                return "/dev/\(device.name) is swap space"
            }
            if let holder = HostFiles.list(device.directory + "/holders")?.first {
                return "/dev/\(device.name) is part of \(holder)"
            }
        }
        return nil
    }

    /// Disks and their partitions: `host0/target0:0:0/0:0:0:0/block/sda/sda1`, the way that SCSI drivers lay them.
    private func blockDevices(below directory: String) -> [BlockDevice] {
        let hosts = children(directory) { $0.hasPrefix("host") }
        let targets = hosts.flatMap { children($0) { $0.hasPrefix("target") } }
        let units = targets.flatMap { children($0) { $0.contains(":") } }
        return units.flatMap { children($0 + "/block") { _ in true } }.flatMap { disk in
            [disk] + children(disk) { HostFiles.exists("\(disk)/\($0)/partition") }
        }.compactMap { path in
            guard let number = HostFiles.text(path + "/dev", limit: 64) else { return nil }
            let name = path.split(separator: "/").last.map { String($0) } ?? path
            return BlockDevice(name: name, number: number, directory: path)
        }
    }

    private func children(_ directory: String, where isWanted: (String) -> Bool) -> [String] {
        (HostFiles.list(directory) ?? []).filter(isWanted).map { directory + "/" + $0 }
    }

    /// The host's mounts, as its first process sees them: a service of systemd's may have a view of its own. Where
    /// that process can't be looked at, the daemon's own view must do.
    private func mountLines() -> [MountInfoLine] {
        let limit = 1 << 20
        let text =
            HostFiles.text(paths.proc + "/1/mountinfo", limit: limit)
            ?? HostFiles.text(paths.proc + "/self/mountinfo", limit: limit)
        return MountInfoLine.all(in: text ?? "")
    }

    /// File systems of several devices (btrfs) have a number of their own, so the source counts too.
    private static func mountPoint(of device: BlockDevice, in lines: [MountInfoLine]) -> String? {
        lines.first { $0.device == device.number || $0.source == "/dev/\(device.name)" }?.mountPoint
    }
}
