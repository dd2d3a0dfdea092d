// SPDX-License-Identifier: Apache-2.0

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

    private func mountLines() -> [[Substring]] {
        let text = HostFiles.text(paths.proc + "/self/mountinfo", limit: 1 << 20) ?? ""
        return text.split(separator: "\n").map { $0.split(separator: " ") }
    }

    /// proc_pid_mountinfo(5): number in field 3, place in 5, source in the second behind the lone dash. File systems
    /// of several devices (btrfs) have a number of their own, so the source counts too.
    private static func mountPoint(of device: BlockDevice, in lines: [[Substring]]) -> String? {
        for fields in lines where fields.count > 4 {
            let source = fields.firstIndex(of: "-").flatMap { $0 + 2 < fields.count ? fields[$0 + 2] : nil }
            if fields[2] == device.number || source == "/dev/\(device.name)" { return String(fields[4]) }
        }
        return nil
    }
}
