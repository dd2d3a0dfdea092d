// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// What keeps the host from lending one of its devices just now: somebody else's driver, or a use of its disk.
package enum HostObstacle {
    /// Reads sysfs, and changes nothing. Nil where nothing is in the way, or the device isn't of this source.
    package static func of(_ record: DeviceRecord, paths: HostPaths = HostPaths()) -> USBError? {
        guard record.source == SysfsEnumerator.sourceName else { return nil }
        let device = SysfsDevice(record.id, root: paths.sysfsDevices)
        do {
            try DriverCheck(paths: paths).check(device, device.interfaces, isForced: false)
            return nil
        } catch {
            return error
        }
    }
}
